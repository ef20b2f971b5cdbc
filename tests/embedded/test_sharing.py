"""Who starts the project's server, who uses it, who stops it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgtasks.embedded import acquire
from pgtasks.embedded.locks import alone
from pgtasks.embedded.postmaster import find_postmaster
from pgtasks.errors import DatabaseUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.embedded.users import User


def runs(project: Path) -> bool:
    return find_postmaster(project / ".pgtasks/postgres") is not None


def test_a_server_is_made_and_started_from_nothing(place: Path) -> None:
    with acquire(place) as lease:
        assert lease.started
        assert lease.directory == place / ".pgtasks"
        assert lease.version == 18
        with psycopg.connect(lease.conninfo) as connection:
            row = connection.execute(
                "SELECT current_database(), current_setting('fsync'), current_setting('listen_addresses')"
            ).fetchone()
    assert row == ("pgtasks", "on", "")
    assert not runs(place)


def test_the_home_is_kept_out_of_version_control(project: Path) -> None:
    (project / ".pgtasks/.gitignore").unlink()
    acquire(project).release()
    assert (project / ".pgtasks/.gitignore").read_text() == "*\n"


def test_data_stays_between_runs(project: Path) -> None:
    with acquire(project) as lease, psycopg.connect(lease.conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with acquire(project) as lease, psycopg.connect(lease.conninfo) as connection:
        assert lease.started
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_eight_processes_at_once_share_one_server_that_the_last_one_stops(
    place: Path, new_user: Callable[..., User]
) -> None:
    users = [new_user(place) for _ in range(8)]
    answers = [user.answer() for user in users]
    assert sorted(bool(answer["started"]) for answer in answers) == [False] * 7 + [True]
    assert len({answer["began"] for answer in answers}) == 1
    for user in users[:7]:
        user.leave()
    users[7].do("say(answer=query('SELECT 1'))")
    assert users[7].answer() == {"answer": 1}
    users[7].leave()
    assert not runs(place)


def test_eight_processes_that_come_and_go_always_find_a_server(project: Path, new_user: Callable[..., User]) -> None:
    users = [new_user(project) for _ in range(8)]
    for user in users:  # each leaves while others still arrive
        assert user.answer()["began"]
        user.leave()
    assert not runs(project)


def test_two_leases_of_one_process_count_as_two_users(project: Path) -> None:
    first, second = acquire(project), acquire(project)
    assert (first.started, second.started) == (True, False)
    first.release()
    assert runs(project)
    first.release()  # a second time: nothing
    assert runs(project)
    second.release()
    assert not runs(project)


def test_an_error_in_the_block_releases_the_server(project: Path) -> None:
    with pytest.raises(ZeroDivisionError), acquire(project):
        raise ZeroDivisionError
    assert not runs(project)


def test_a_process_that_ends_without_releasing_stops_the_server(project: Path, new_user: Callable[..., User]) -> None:
    user = new_user(project)
    user.answer()
    user.do("sys.exit(0)")
    assert user.process.wait(60) == 0
    assert not runs(project)


def test_the_server_of_a_killed_owner_is_taken_over_and_stopped(project: Path, new_user: Callable[..., User]) -> None:
    owner = new_user(project)
    began = owner.answer()["began"]
    owner.kill()
    assert runs(project)
    heir = new_user(project)
    answer = heir.answer()
    assert (answer["started"], answer["began"]) == (False, began)
    heir.leave()
    assert not runs(project)


@pytest.mark.parametrize(
    "ending",
    ["sys.exit(0)", "os._exit(0)", "lease.release(); os._exit(0)", "del lease; gc.collect(); os._exit(0)"],
    ids=["exits", "exits at once", "releases", "collects garbage"],
)
def test_a_forked_child_never_stops_the_server(project: Path, new_user: Callable[..., User], ending: str) -> None:
    owner, other = new_user(project), new_user(project)
    owner.answer()
    other.answer()
    owner.do(f"import gc\nif (child := os.fork()) == 0:\n    {ending}")
    owner.do("os.waitpid(child, 0); say(answer=query('SELECT 1'))")
    assert owner.answer() == {"answer": 1}
    other.leave()  # the child did not give up its parent's lock either
    assert runs(project)
    owner.leave()
    assert not runs(project)


def test_a_forked_child_that_lives_on_does_not_keep_the_server(project: Path, new_user: Callable[..., User]) -> None:
    owner = new_user(project)
    owner.answer()
    owner.do(
        "lives, dies = os.pipe()\nif (child := os.fork()) == 0:\n    os.close(dies); os.read(lives, 1); os._exit(0)"
    )
    owner.do("lease.release(); say(released=True)")
    assert owner.answer() == {"released": True}
    assert not runs(project)


def test_a_child_of_a_killed_owner_keeps_the_server_until_it_ends(project: Path, new_user: Callable[..., User]) -> None:
    owner, other = new_user(project), new_user(project)
    owner.answer()
    other.answer()
    owner.do("lives, dies = os.pipe()")
    owner.do("if (child := os.fork()) == 0:\n    say(forked=True); sys.stdin.readline(); say(ended=True); os._exit(0)")
    assert owner.answer() == {"forked": True}
    owner.kill()
    other.leave()
    assert runs(project)
    assert owner.process.stdin is not None
    owner.process.stdin.close()
    assert owner.answer() == {"ended": True}
    last = new_user(project)
    assert last.answer()["started"] is False
    last.leave()
    assert not runs(project)


def test_a_lease_that_is_collected_still_holds_the_server(project: Path) -> None:
    lease = acquire(project)
    conninfo, release = lease.conninfo, lease.release
    del lease
    gc.collect()
    psycopg.connect(conninfo).close()
    release()
    assert not runs(project)


def test_a_home_that_was_removed_is_left_without_an_error(project: Path) -> None:
    lease = acquire(project)
    data = project / ".pgtasks/postgres"
    (project / ".pgtasks").rename(project / "elsewhere")
    lease.release()
    assert not data.exists()
    assert find_postmaster(project / "elsewhere/postgres") is not None  # found under its new name, too


def test_a_start_that_fails_is_explained_by_the_log_and_leaves_nothing_locked(project: Path) -> None:
    settings = project / ".pgtasks/postgres/postgresql.conf"
    good = settings.read_text()
    settings.write_text(good + "shared_buffers = 'a lot'\n")
    with pytest.raises(DatabaseUnavailableError, match='invalid value for parameter "shared_buffers": "a lot"'):
        acquire(project)
    settings.write_text(good)
    acquire(project).release()


def test_who_waits_too_long_for_another_start_is_told_the_lock_file(place: Path) -> None:
    lock = place / "start.lock"
    with alone(lock, 1), pytest.raises(DatabaseUnavailableError, match=r"start\.lock"), alone(lock, 0.05):
        pass
