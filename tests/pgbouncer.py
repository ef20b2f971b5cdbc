"""PgBouncer, run as a process of the test's own in front of a test server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.servers import free_port
from tests.waiting import wait_until

if TYPE_CHECKING:
    from types import TracebackType

_INSTALL_SECONDS = 180


def find_pgbouncer() -> str | None:
    """Return the program; Debian's package is installed if it is missing and we may. None if there is none."""
    found = _program()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "pgbouncer"]):
            subprocess.run(command, env=environment, capture_output=True, check=False, timeout=_INSTALL_SECONDS)
        found = _program()
    return found


class PgBouncer:
    """A running PgBouncer; as a context manager it is stopped at the end.

    Args:
        program: where it is.
        server: conninfo of the database behind it.
        mode: its `pool_mode`.
        pool_size: how many connections to the server it may have.
    """

    def __init__(
        self, program: str, server: str, *, mode: Literal["transaction", "session"], pool_size: int = 20
    ) -> None:
        self._program = program
        self._server = conninfo_to_dict(server)
        self._mode = mode
        self._pool_size = pool_size
        self._port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="pgtasks-pgbouncer-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def conninfo(self) -> str:
        """How to connect through it."""
        return make_conninfo("", host="127.0.0.1", port=self._port, user="postgres", dbname="pooled")

    def __enter__(self) -> PgBouncer:
        self._write_configuration()
        # It refuses to run as root, and the server's socket may be for the server's account only.
        account = Path(str(self._server["host"])).stat() if os.geteuid() == 0 else None
        if account is not None:
            for path in (self._directory, *self._directory.iterdir()):
                os.chown(path, account.st_uid, account.st_gid)
        with (self._directory / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [self._program, str(self._directory / "pgbouncer.ini")],
                user=None if account is None else account.st_uid,
                group=None if account is None else account.st_gid,
                extra_groups=None if account is None else [],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, what="PgBouncer")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._directory)

    def show(self, what: str) -> list[dict[str, object]]:
        """Return the answer to one of its `SHOW` commands."""
        admin = make_conninfo(self.conninfo, dbname="pgbouncer")
        with (
            psycopg.connect(admin, autocommit=True) as connection,
            psycopg.ClientCursor(connection, row_factory=psycopg.rows.dict_row) as cursor,
        ):
            return cursor.execute(f"SHOW {what}".encode()).fetchall()

    def _write_configuration(self) -> None:
        place = self._server
        (self._directory / "users").write_text('"postgres" ""\n')
        (self._directory / "pgbouncer.ini").write_text(f"""
[databases]
pooled = host={place["host"]} port={place["port"]} dbname={place["dbname"]} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self._port}
unix_socket_dir =
auth_type = any
auth_file = {self._directory}/users
admin_users = postgres
pool_mode = {self._mode}
default_pool_size = {self._pool_size}
max_client_conn = 500
server_login_retry = 1
log_connections = 0
log_disconnections = 0
""")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"PgBouncer has ended: {(self._directory / 'output').read_text()}")
        try:
            psycopg.connect(self.conninfo, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def _program() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
