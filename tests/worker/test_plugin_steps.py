from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker

SHOP = """
from pgtasks.plugins import Migration, hookimpl

name = "shop"


@hookimpl
def register_migrations():
    return [Migration(1, "create table {schema}._pgtasks_shop_visits (at timestamptz)")]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Mapping[str, str]:
    """The environment of a worker that has a plugin with a table."""
    (tmp_path / "pgtasks_shop.py").write_text(SHOP)
    return {"PGTASKS_PLUGINS": "pgtasks_shop", "PYTHONPATH": str(tmp_path)}


def has_table(db: Database) -> bool:
    return bool(db.value("select to_regclass('graphile_worker._pgtasks_shop_visits') is not null"))


def test_a_starting_worker_takes_the_steps_of_plugins(
    start_worker: StartWorker, db: Database, shop: Mapping[str, str]
) -> None:
    workers = [start_worker("--once", env=shop) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert has_table(db)
    taken = [record["steps"] for worker in workers for record in worker.records("plugins_migrated")]
    assert taken == [["shop 1"]]
    assert start_worker("--once", "--no-migrate", env=shop).wait() == 0


def test_a_worker_that_may_not_migrate_refuses_to_start_without_them(
    start_worker: StartWorker, db: Database, shop: Mapping[str, str]
) -> None:
    refused = start_worker("--once", "--no-migrate", env=shop)
    assert refused.wait() == 4
    assert "lacks steps of plugins; pending: shop 1. Run `pgtasks migrate`" in refused.text
    assert not has_table(db)


def test_a_step_that_fails_keeps_the_worker_from_starting(
    start_worker: StartWorker, db: Database, shop: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "pgtasks_shop.py").write_text(SHOP.replace("timestamptz", "no_such_type"))
    failed = start_worker("--once", env=shop)
    assert failed.wait() == 14
    assert "plugin 'shop', migration 1: type \"no_such_type\" does not exist" in failed.text
    assert not has_table(db)
