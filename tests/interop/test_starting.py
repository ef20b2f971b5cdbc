"""Each side starts on a schema that the other has installed, and leaves what is there as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from pgtasks import App, Registry
from pgtasks.queue.migrate import check, migrate
from tests.interop.catalog import added, catalog
from tests.interop.conftest import TABLES, Graphile, Shared
from tests.interop.releases import LABELS, MANIFEST
from tests.queue.diagnosis import Doctor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.interop.conftest import StartNode, StartPython


def test_the_releases_are_those_that_the_report_names(
    graphile: Graphile, record_property: Callable[[str, object], None]
) -> None:
    about = graphile.about()
    record_property("graphile worker", f"{about['release']} on node {about['node']}")
    assert about["release"] == graphile.release.version
    assert f"npm:graphile-worker@{about['release']}" in MANIFEST["dependencies"].values()
    assert [label for label in LABELS if about["release"].startswith(f"{label}.")]


def test_graphile_worker_starts_on_our_schema_and_changes_nothing(
    db: Shared, start_node: StartNode, start_python: StartPython
) -> None:
    before = catalog(db.connection)
    start_node().wait_until_started()
    start_python().wait_for("worker_ready")
    for task in ("node_note", "py_note"):
        db.wait_for_run(db.app.add_job(task, {}).id)
    assert added(before, catalog(db.connection)) == []
    status = check(db.connection)
    assert status.current
    assert (status.kind, status.replaced_functions, status.warnings) == ("own", (), ())


class TestOnADatabaseWithoutASchema:
    """The fixtures of the same names, on an empty database."""

    @pytest.fixture
    def database(self, empty_database: str) -> str:
        return empty_database

    @pytest.fixture
    def db(self, database: str) -> Iterator[Shared]:
        app = App(registry=Registry(), database_url=database)
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(TABLES)
            yield Shared(connection, app)
        app.close()

    def test_we_start_on_its_schema_and_only_add_what_is_called_pgtasks(
        self, db: Shared, graphile: Graphile, start_node: StartNode, start_python: StartPython
    ) -> None:
        theirs = graphile.add_job("py_note", {})
        before = catalog(db.connection)
        start_python()
        db.wait_for_run(theirs)
        new = added(before, catalog(db.connection))
        assert new
        assert all("pgtasks_" in name for name in new)
        start_node().wait_until_started()
        db.wait_for_run(graphile.add_job("node_note", {}))
        assert added(before, catalog(db.connection)) == new

    def test_the_doctor_misses_nothing_in_a_schema_of_its(self, db: Shared, graphile: Graphile, database: str) -> None:
        graphile.add_job("node_note", {})
        doctor = Doctor(database)
        assert doctor.names() == ["schema_pending", "functions_of_graphile_worker", "unseen"]
        migrate(db.connection)
        assert doctor.names() == ["no_worker", "functions_of_graphile_worker"]
        doctor.close()

    def test_both_start_at_once_and_both_work(
        self, db: Shared, start_node: StartNode, start_python: StartPython
    ) -> None:
        ours, its = start_python(), start_node()
        ours.wait_for("worker_ready")
        its.wait_until_started()
        for task in ("node_note", "py_note"):
            db.wait_for_run(db.app.add_job(task, {}).id)
        assert ours.stop() == 0

    def test_we_wait_for_an_installation_of_its_that_is_under_way(self, db: Shared, start_node: StartNode) -> None:
        its = start_node()
        db.wait(lambda: db.value("select to_regclass('graphile_worker.migrations')"), "its first table")
        migrate(db.connection)
        its.wait_until_started()
        assert db.app.add_job("node_note", {}).task == "node_note"
        db.wait(db.runs, "a run by Graphile Worker")
