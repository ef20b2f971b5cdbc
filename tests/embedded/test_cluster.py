"""One data directory: made whole, started after a crash, closed to others, wherever it is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgtasks.embedded import Cluster, acquire, find_binaries
from pgtasks.embedded.account import account_for
from pgtasks.embedded.locks import FileLock
from pgtasks.embedded.places import socket_dir_for
from pgtasks.embedded.postmaster import find_postmaster, has_ended
from pgtasks.errors import DatabaseUnavailableError
from tests.servers import versions
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.embedded.users import User
    from tests.servers import Servers

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
as_user = pytest.mark.skipif(os.geteuid() == 0, reason="needs another user than root")


def answer(cluster: Cluster) -> object:
    with psycopg.connect(cluster.conninfo()) as connection:
        row = connection.execute("SELECT 42").fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def cluster(servers: Servers) -> Iterator[Cluster]:
    """A cluster of the test's own, made and started."""
    made = servers.cluster()
    made.start()
    yield made
    made.stop("immediate")


@pytest.mark.parametrize("version", versions())
def test_every_version_can_be_made_started_restarted_and_stopped(servers: Servers, version: int) -> None:
    cluster = servers.missing_cluster(version)
    assert not cluster.initialized()
    cluster.initialize()
    cluster.initialize()  # leaves it alone
    assert cluster.start()
    assert not cluster.start()
    with psycopg.connect(cluster.conninfo()) as connection:
        assert connection.info.server_version // 10000 == version
        row = connection.execute("SELECT current_setting('server_encoding'), 'a' > 'B', now()::text").fetchone()
    assert row is not None
    assert row[:2] == ("UTF8", True)
    assert row[2].endswith("+00")
    cluster.restart()
    assert answer(cluster) == 42
    cluster.stop()
    cluster.stop()
    assert not cluster.running()
    with pytest.raises(DatabaseUnavailableError, match="does not run"):
        cluster.conninfo()


@pytest.mark.parametrize(
    "name",
    ["with blanks", "it's", 'so "called"', "$HOME `id` \\ %s {}", "grüße", "x" * 200],
    ids=["blanks", "apostrophe", "quotes", "shell", "letters", "long"],
)
def test_any_name_will_do_for_a_directory(project: Path, name: str) -> None:
    odd = project.rename(project.with_name(name))
    with acquire(odd) as lease:
        psycopg.connect(lease.conninfo).close()
    assert find_postmaster(odd / ".pgtasks/postgres") is None


def test_a_new_cluster_can_be_made_in_a_directory_of_any_name(place: Path) -> None:
    cluster = Cluster(find_binaries(), place / """it's "so" $HOME `id` \\""" / "data", sync=False)
    cluster.initialize()
    cluster.start()
    assert answer(cluster) == 42
    cluster.stop()


def test_a_directory_deeper_than_a_socket_path_may_be_long_will_do(project: Path) -> None:
    deep = project.parent / ("a" * 90) / ("b" * 90) / "project"
    deep.parent.mkdir(parents=True)
    project.rename(deep)
    with acquire(deep) as lease:
        psycopg.connect(lease.conninfo).close()


def test_a_directory_that_holds_something_else_is_refused(place: Path) -> None:
    (place / "data").mkdir()
    (place / "data/thesis.txt").write_text("chapter one")
    with pytest.raises(DatabaseUnavailableError, match="is not empty and holds no PostgreSQL data directory"):
        Cluster(find_binaries(), place / "data").initialize()
    assert [path.name for path in place.iterdir()] == ["data"]


def test_what_a_crash_left_half_made_is_cleared_away(place: Path) -> None:
    left = place / ".data-new-abc"
    left.mkdir()
    (left / "PG_VERSION").write_text("18\n")
    cluster = Cluster(find_binaries(), place / "data", sync=False)
    cluster.initialize()
    assert [path.name for path in place.iterdir()] == ["data"]


@as_root
def test_a_full_disk_is_named_and_leaves_nothing_half_made(place: Path) -> None:
    small = place / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", small], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("cannot mount a small file system")
    try:
        with pytest.raises(DatabaseUnavailableError, match="No space left on device"):
            Cluster(find_binaries(), small / "data").initialize()
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_server_that_crashed_is_started_again_with_its_data(project: Path) -> None:
    data = project / ".pgtasks/postgres"
    lease = acquire(project)
    with psycopg.connect(lease.conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    crashed = find_postmaster(data)
    assert crashed is not None
    os.kill(crashed.pid, signal.SIGKILL)
    wait_until(partial(has_ended, crashed.pid), what="the end of the server")
    assert (data / "postmaster.pid").exists()
    with acquire(project) as second:  # while the first user is still there
        assert second.started
        with psycopg.connect(second.conninfo) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    lease.release()
    assert find_postmaster(data) is None


def test_a_pid_file_with_the_number_of_another_process_is_stale(project: Path) -> None:
    data = project / ".pgtasks/postgres"
    with subprocess.Popen(["sleep", "600"], **account_for(data).identity()) as other:  # signals reach it, as ours
        try:
            lines = [str(other.pid), str(data), "1700000000", "5432", "/tmp", "", "  1 2", "ready   "]
            content = "\n".join(lines) + "\n"
            (data / "postmaster.pid").write_text(content)
            (socket_dir_for(data, account_for(data)) / ".s.PGSQL.5432.lock").write_text(content)
            assert find_postmaster(data) is None
            with acquire(project) as lease:
                assert lease.started
                psycopg.connect(lease.conninfo).close()
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.parametrize("content", ["", "garbage\n", "-1\n", "99999999\n/nowhere\n"], ids=repr)
def test_a_broken_pid_file_is_stale(project: Path, content: str) -> None:
    (project / ".pgtasks/postgres/postmaster.pid").write_text(content)
    with acquire(project) as lease:
        psycopg.connect(lease.conninfo).close()


def test_a_copy_of_a_running_data_directory_is_not_taken_for_the_original(cluster: Cluster) -> None:
    copy = cluster.directory.with_name("copy")
    subprocess.run(["cp", "-a", cluster.directory, copy], check=True)
    assert (copy / "postmaster.pid").exists()
    assert find_postmaster(copy) is None
    assert cluster.running()
    shutil.rmtree(copy)


def test_a_start_waits_for_a_server_that_is_just_stopping(cluster: Cluster) -> None:
    first = cluster.postmaster()
    assert first is not None
    with psycopg.connect(cluster.conninfo()) as client:
        os.kill(first.pid, signal.SIGTERM)  # a smart shutdown, which waits for the client
        wait_until(lambda: (found := cluster.postmaster()) and found.status == "stopping", what="the shutdown")
        with pytest.raises(DatabaseUnavailableError, match="was not ready in time"):
            cluster.start(timeout=0.05)
        client.execute("SELECT 1")
    assert cluster.start()
    assert answer(cluster) == 42


def test_a_server_that_cannot_be_seen_from_here_keeps_a_second_one_out(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.stop()
    monkeypatch.setattr("pgtasks.embedded.cluster._LEFTOVERS_END", 0.05)
    elsewhere = FileLock(cluster.directory / "server.lock")  # what a server in another container holds
    assert elsewhere.wait_alone(15)
    with pytest.raises(DatabaseUnavailableError, match="cannot be seen from here"):
        cluster.start()
    elsewhere.give_up()
    cluster.start()
    assert answer(cluster) == 42


def test_a_running_server_holds_the_lock_of_its_directory(cluster: Cluster) -> None:
    lock = FileLock(cluster.directory / "server.lock")
    try:
        assert not lock.try_alone()
        cluster.stop()
        assert lock.wait_alone(15)
    finally:
        lock.give_up()


def test_an_interrupted_start_leaves_no_server(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.stop()

    def interrupted(self: Cluster, deadline: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Cluster, "postmaster", lambda _: None)  # or it may be up before it is looked for
        patch.setattr(Cluster, "_pause", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cluster.start()
    # It may have been up, and not have heard yet that it is to end.
    wait_until(lambda: (found := cluster.postmaster()) is None or found.status != "ready", what="the signal")
    assert cluster.start()  # waits for the end of the one that nobody waited for


def test_a_start_that_fails_shows_the_end_of_the_log(servers: Servers) -> None:
    cluster = servers.cluster(shared_buffers="a lot")
    with pytest.raises(DatabaseUnavailableError, match=r'did not start\.\n(.*\n)*.*"shared_buffers": "a lot"'):
        cluster.start()


def test_a_big_log_is_put_aside_at_the_next_start(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgtasks.embedded.cluster._LOG_LIMIT", 10)
    cluster.restart()
    assert cluster.directory.joinpath("server.log.1").stat().st_size > 10


def test_the_server_is_in_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(cluster: Cluster) -> None:
    found = cluster.postmaster()
    assert found is not None
    assert os.getsid(found.pid) != os.getsid(0)
    assert os.getpgid(found.pid) != os.getpgid(0)


def test_the_server_inherits_no_file_of_ours(cluster: Cluster) -> None:
    cluster.stop()
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    cluster.start()
    os.close(writing)
    assert os.read(reading, 1) == b""  # the end: nobody else has the pipe open for writing
    os.close(reading)


def test_the_server_does_not_see_our_environment(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.stop()
    for name in ("PGDATA", "PGPORT", "PG_COLOR", "LC_ALL", "TZ"):
        monkeypatch.setenv(name, "nonsense")
    cluster.start()
    assert "port=5432" in cluster.conninfo()
    assert answer(cluster) == 42


def test_nobody_else_may_enter_the_socket_directory_or_the_data(cluster: Cluster) -> None:
    found = cluster.postmaster()
    assert found is not None
    for directory in (cluster.directory.parent.joinpath(found.socket_dir), cluster.directory):
        assert directory.stat().st_mode & 0o077 == 0


def test_a_socket_directory_of_someone_else_is_refused(cluster: Cluster) -> None:
    account = account_for(cluster.directory)
    cluster.stop()
    directory = socket_dir_for(cluster.directory, account)
    directory.rmdir()
    directory.symlink_to("/tmp")
    with pytest.raises(DatabaseUnavailableError, match="is not a private directory"):
        cluster.start()
    directory.unlink()
    cluster.start()


def test_a_tcp_port_is_opened_only_when_asked_for(servers: Servers) -> None:
    from tests.servers import free_port

    port = free_port()
    cluster = servers.cluster(listen_addresses="127.0.0.1", port=str(port))
    cluster.start()
    with psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert answer(cluster) == 42
    cluster.stop()


@as_user
@pytest.mark.parametrize("closed", ["project/.pgtasks", "project/.pgtasks/postgres"])
def test_a_directory_that_is_closed_to_us_is_an_error_in_one_line(project: Path, closed: str) -> None:
    directory = project.parent / closed
    directory.chmod(0)
    try:
        with pytest.raises(DatabaseUnavailableError, match=r"^The embedded PostgreSQL cannot .*: permission denied.*$"):
            acquire(project)
    finally:
        directory.chmod(0o755)


@as_root
def test_root_changes_the_mode_of_no_directory_above(place: Path, new_user: Callable[..., User]) -> None:
    program = find_binaries().bin_dir / "postgres"
    project = place / "project"
    project.mkdir()
    above = {*project.parents, *program.parents, project, program}
    before = {path: path.stat().st_mode for path in above}
    user = new_user(project, umask="077")
    assert user.answer()["started"]
    user.leave()
    assert {path: path.stat().st_mode for path in above} == before


@as_root
def test_root_runs_the_server_of_a_user_as_that_user(project: Path) -> None:
    nobody = account_for(project / "new").uid + 1
    for path in (project, *project.rglob("*")):
        os.chown(path, nobody, nobody)
    with acquire(project) as lease:
        psycopg.connect(lease.conninfo).close()
        found = find_postmaster(project / ".pgtasks/postgres")
        assert found is not None
        assert Path(f"/proc/{found.pid}").stat().st_uid == nobody
    root_owned = [path for path in project.rglob("*") if path.stat().st_uid != nobody]
    assert root_owned == []


@as_root
def test_a_data_directory_of_root_is_an_error_that_says_why(project: Path) -> None:
    for path in (project, *project.rglob("*")):
        os.chown(path, 0, 0)
    with pytest.raises(DatabaseUnavailableError, match=r"did not start\.\n(.*\n)*.*Permission denied"):
        acquire(project)


@as_root
def test_root_is_told_which_directory_the_account_may_not_enter(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(DatabaseUnavailableError, match=f"may not enter {closed};"):
        acquire(directory=closed / "inside")
