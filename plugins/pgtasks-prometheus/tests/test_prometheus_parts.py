"""The parts by themselves: the files that are counted in, where they are, and what is made of them."""

from __future__ import annotations

import datetime as dt
import fcntl
import multiprocessing
import os
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_scraping import parse

import pgtasks_prometheus
from pgtasks import App, Job, Registry
from pgtasks.plugins import HostInfo, JobEnd, Metric, ProcessInfo, ProcessState, Role, hookimpl
from pgtasks.testing import check_plugin
from pgtasks_prometheus import Prometheus, PrometheusSettings
from pgtasks_prometheus.cells import SEGMENT, CellFile, read_cells
from pgtasks_prometheus.collector import count_families
from pgtasks_prometheus.counting import Counting
from pgtasks_prometheus.directory import Directory
from pgtasks_prometheus.host import Host
from pgtasks_prometheus.layout import KINDS, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_scraping import Scrape

NOW = dt.datetime.now(dt.UTC)

# Files


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=128), st.lists(st.floats(allow_nan=False), max_size=100)), max_size=50))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[tuple[str, list[float]]]
) -> None:
    path = tmp_path_factory.mktemp("cells") / "file"
    file = CellFile(path, 1)
    for name, numbers in blocks:
        cells = file.add(("kind", name), len(numbers))
        for number, value in enumerate(numbers):
            cells[number] = value
    assert list(read_cells(path, 1)) == [(("kind", name), numbers) for name, numbers in blocks]


def test_a_file_grows_as_it_is_needed_and_old_cells_stay_in_use(tmp_path: Path) -> None:
    file = CellFile(tmp_path / "file", 1)
    first = file.add(("first",), 1)
    for number in range(2000):
        file.add(("task", str(number)), 20)
    first[0] += 7
    blocks = dict(read_cells(tmp_path / "file", 1))
    assert blocks["first",] == [7.0]
    assert len(blocks) == 2001
    assert (tmp_path / "file").stat().st_size % SEGMENT == 0


def test_a_file_of_another_version_or_one_that_is_being_made_has_nothing(tmp_path: Path) -> None:
    CellFile(tmp_path / "other", 2).add(("kind",), 1)
    (tmp_path / "empty").touch()
    (tmp_path / "begun").write_bytes(bytes(SEGMENT))
    (tmp_path / "short").write_bytes(bytes(100))
    for path in tmp_path.iterdir():
        assert list(read_cells(path, 1)) == []


def test_a_block_whose_first_word_is_not_written_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    CellFile(path, 1).add(("kind",), 1)
    with path.open("r+b") as file:
        file.seek(16)
        file.write(struct.pack("Q", 0))
    assert list(read_cells(path, 1)) == []


def test_a_process_that_is_killed_leaves_all_that_it_has_counted(tmp_path: Path) -> None:
    def count() -> None:
        cells = CellFile(tmp_path / "file", 1).add(("kind",), 1)
        for _ in range(1000):
            cells[0] += 1
        os.kill(os.getpid(), 9)

    process = multiprocessing.get_context("fork").Process(target=count)
    process.start()
    process.join()
    assert process.exitcode == -9
    assert list(read_cells(tmp_path / "file", 1)) == [(("kind",), [1000.0])]


# Directories


def test_processes_of_a_host_find_the_same_directory_whoever_comes_first(tmp_path: Path) -> None:
    first, second = Directory("host-1", tmp_path), Directory("host-1", tmp_path)
    assert first.path == second.path
    assert first.path.stat().st_mode & 0o777 == 0o700
    first.remove()
    assert list(tmp_path.iterdir()) == []


def test_only_directories_that_no_process_uses_are_cleared_away(tmp_path: Path) -> None:
    used, left = Directory("used", tmp_path), Directory("left", tmp_path)
    CellFile(left.path / "counts", 1)
    fcntl.flock(left._descriptor, fcntl.LOCK_UN)  # as if its process had died
    (tmp_path / "another's").mkdir()
    mine = Directory("mine", tmp_path)
    mine.clear_leftovers()
    assert {path.name for path in tmp_path.iterdir()} == {used.path.name, mine.path.name, "another's"}


def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "host.prometheus").mkdir(mode=0o777)
    (tmp_path / "host.prometheus").chmod(0o777)
    with pytest.raises(PermissionError, match="is not this user's alone"):
        Directory("host", tmp_path)


# Counting


def a_job(**fields: Any) -> Job:
    told = {"id": 1, "task": "work", "queue": None, "payload_json": "{}", "priority": 0, "run_at": NOW, "attempts": 1}
    more = {"max_attempts": 25, "last_error": None, "created_at": NOW, "updated_at": NOW, "key": None}
    lock = {"locked_at": NOW + dt.timedelta(seconds=2), "locked_by": "worker", "revision": 0}
    return Job(**{**told, **more, **lock, **fields})


def counted(path: Path) -> Scrape:
    registry = CollectorRegistry()

    class Counted:
        def collect(self) -> Any:
            return count_families(dict(read_cells(path, VERSION)))

    registry.register(Counted())  # type: ignore[arg-type]  # it has what a collector needs
    return parse(generate_latest(registry).decode())


@pytest.mark.parametrize(
    ("outcome", "state", "label"),
    [
        ("success", "deleted", "success"),
        ("cancel", "deleted", "cancel"),
        ("retry", "retrying", "retrying"),
        ("retry", "failed", "failed"),
        ("fail", "failed", "failed"),
        ("retry", "superseded", "superseded"),
        ("snooze", "snoozed", "snoozed"),
        ("return", "returned", "returned"),
        ("success", "lost", "lost"),
    ],
)
def test_each_end_has_one_outcome(tmp_path: Path, outcome: Any, state: Any, label: str) -> None:
    counting = Counting(tmp_path / "file", ["work"])
    counting.finished(JobEnd(a_job(attempts=2), outcome, state, 0.3))
    answer = counted(tmp_path / "file")
    assert {key: value for key, value in answer["pgtasks_jobs_total"].items() if value} == {(label, "work"): 1}
    assert answer["pgtasks_job_retries_total"] == {("work",): 1}
    assert answer["pgtasks_job_run_seconds_sum"]["work",] == 0.3
    assert answer["pgtasks_job_run_seconds_bucket"]["0.25", "work"] == 0
    assert answer["pgtasks_job_run_seconds_bucket"]["0.5", "work"] == 1
    assert answer["pgtasks_job_wait_seconds_count"]["work",] == 0, "it was never started"


def test_lag_is_from_when_a_job_was_due_and_there(tmp_path: Path) -> None:
    counting = Counting(tmp_path / "file", [])
    early = dt.datetime.min.replace(tzinfo=dt.UTC)
    counting.claimed([a_job(run_at=early), a_job(run_at=NOW + dt.timedelta(seconds=1))])
    answer = counted(tmp_path / "file")
    assert answer["pgtasks_job_lag_seconds_sum"]["work",] == 3.0
    assert answer["pgtasks_jobs_claimed_total"]["work",] == 2
    assert answer["pgtasks_claims_total"][()] == 1


# The supervisor


@pytest.fixture
def app(database: str) -> Iterator[App]:
    app = App(registry=Registry(), database_url=database, plugins=[Others])
    app.assume(Role.SUPERVISOR)
    yield app
    app.close()


class Others:
    """A plugin with figures of its own."""

    answers: tuple[object, ...] = ()

    @hookimpl
    def collect_metrics(self) -> Any:
        return self.answers


@pytest.fixture
def host(app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    monkeypatch.setattr("pgtasks_prometheus.directory.default_place", lambda: tmp_path)
    host = Host(app, PrometheusSettings(port=0))
    host.begin(HostInfo("host", 2, 5, ("work",)))
    yield host
    host.close()


def answer_of(host: Host) -> Scrape:
    from prometheus_scraping import scrape_port

    return scrape_port(host.port)


def test_a_process_that_ends_is_neither_forgotten_nor_counted_twice(host: Host, tmp_path: Path) -> None:
    for number in range(3):
        process = ProcessInfo(f"host-{number}", 0, 4711)
        host.spawned(process)
        path = tmp_path / "host.prometheus" / process.worker_id
        counting = Counting(path, ["work"])
        for _ in range(5):
            counting.finished(JobEnd(a_job(), "success", "deleted", 0.25))
        assert answer_of(host)["pgtasks_jobs_total"]["success", "work"] == 5 * (number + 1)
        host.exited(process, 0)
        assert not path.exists()
        answer = answer_of(host)
        assert answer["pgtasks_jobs_total"]["success", "work"] == 5 * (number + 1)
        assert answer["pgtasks_job_run_seconds_sum"]["work",] == 1.25 * (number + 1)
    assert answer["pgtasks_processes_exited_total"] == {("0",): 3}
    assert answer["pgtasks_processes"][()] == 0


def test_what_ended_processes_have_counted_is_shown_also_without_the_directory(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "host.prometheus" / "host-1"
    Counting(path, ["work"]).finished(JobEnd(a_job(), "success", "deleted", 0.25))
    host.exited(ProcessInfo("host-1", 0, 4711), 0)
    path.parent.rmdir()
    host.exited(ProcessInfo("host-2", 0, 4712), 0)
    assert answer_of(host)["pgtasks_jobs_total"]["success", "work"] == 1


def test_slots_are_those_of_the_last_tick(host: Host) -> None:
    states = (ProcessState(ProcessInfo("host-1", 0, 1), 3, 2, 7), ProcessState(ProcessInfo("host-2", 1, 2), 0, 5, 0))
    host.note(HostInfo("host", 2, 5, (), states))
    answer = answer_of(host)
    assert answer["pgtasks_slots_running"] == {("0",): 3, ("1",): 0}
    assert answer["pgtasks_slots_free"] == {("0",): 2, ("1",): 5}
    assert answer["pgtasks_local_queue_jobs"] == {("0",): 7, ("1",): 0}


def test_what_other_plugins_answer_is_shown_and_nonsense_left_out(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = (
        Metric("shop_visits", 3, "counter", "Visits.", {"door": "front"}),
        Metric("shop_visits", 4, "counter", "Visits.", {"door": "back"}),
        Metric("shop_visits", 5, "counter", "Visits.", {"door": "back"}),
        Metric("shop_open", 1),
        Metric("pgtasks_processes", 99),
    )
    monkeypatch.setattr(Others, "answers", figures)
    answer = answer_of(host)
    assert answer["shop_visits_total"] == {("front",): 3, ("back",): 4}
    assert answer["shop_open"] == {(): 1}
    assert answer["pgtasks_processes"] == {(): 0}
    monkeypatch.setattr(Others, "answers", (Metric("not a name", 1),))
    answer = answer_of(host)
    assert "pgtasks_jobs_lost_total" in answer
    assert not [name for name in answer if "name" in name]


def test_the_applications_own_metrics_are_shown_if_it_has_them_in_files(
    app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from prometheus_client.mmap_dict import MmapedDict, mmap_key

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    file = MmapedDict(str(tmp_path / "counter_1.db"))
    file.write_value(mmap_key("orders", "orders_total", ["shop"], ["a"], "Orders."), 12.0, 0.0)
    file.close()
    host = Host(app, PrometheusSettings(port=0))
    assert answer_of(host)["orders_total"] == {("a",): 12}
    (tmp_path / "counter_2.db").write_bytes(b"nonsense")
    assert answer_of(host)["pgtasks_processes"] == {(): 0}
    host.close()


def test_hooks_of_a_process_that_has_no_port_do_nothing(app: App) -> None:
    plugin = Prometheus()
    plugin.configure(app)
    plugin.worker_process_init(app, ProcessInfo("host-1", 0, 1))
    plugin.jobs_claimed([a_job()])
    plugin.job_finished(JobEnd(a_job(), "success", "deleted", 0.3))
    plugin.supervisor_ready(HostInfo("host", 1, 1, ()))
    plugin.hook_error("shop", "job_started")
    assert (plugin._counting, plugin._host) == (None, None)


def test_a_process_that_cannot_make_its_file_works_uncounted(
    app: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PGTASKS_PLUGIN_PROMETHEUS__PORT", "0")
    monkeypatch.setattr("pgtasks_prometheus.directory.default_place", lambda: tmp_path / "missing")
    app.assume(Role.WORKER)
    plugin = Prometheus()
    plugin.configure(app)
    plugin.worker_process_init(app, ProcessInfo("host-1", 0, 1))
    plugin.job_finished(JobEnd(a_job(), "success", "deleted", 0.3))
    assert [record.message for record in caplog.records] == ["metrics_not_counted"]


def test_the_module_is_the_plugin_with_all_hooks_of_its_object() -> None:
    info = check_plugin(pgtasks_prometheus)
    assert info.name == "prometheus"
    marked = {name for name in dir(Prometheus) if hasattr(getattr(Prometheus, name), "pgtasks_impl")}
    assert set(info.hooks) == marked


def test_metrics_have_no_name_twice() -> None:
    names = [metric.name for kind in KINDS.values() for metric in (*kind.counters, *kind.histograms)]
    repeated = {name for name in names if names.count(name) > 1}
    assert repeated == {"pgtasks_jobs", "pgtasks_jobs_recovered"}, "these have a label that tells their cells apart"
