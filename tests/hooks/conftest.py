"""Workers with a plugin that records all calls of hooks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.waiting import wait_until
from tests.worker.conftest import LONG, Database, StartWorker, Worker, db, start_worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["db", "start_worker"]


class Recorded:
    """A worker whose calls of hooks are recorded, and these calls."""

    def __init__(self, worker: Worker, file: Path, db: Database) -> None:
        self.worker = worker
        self.db = db
        self._file = file

    def calls(self, hook: str | None = None, role: str | None = None) -> list[dict[str, Any]]:
        text = self._file.read_text() if self._file.exists() else ""
        found = [json.loads(line) for line in text.split("\n")[:-1]]  # the last one may still be written
        return [call for call in found if hook in (None, call["hook"]) and role in (None, call["role"])]

    def given(self, hook: str) -> dict[str, Any]:
        """What the hook was given in its first call."""
        given: dict[str, Any] = self.calls(hook)[0]["given"]
        return given

    def wait_for(self, hook: str) -> None:
        wait_until(lambda: self.calls(hook), LONG, f"a call of {hook}:\n{self.worker.text}")


@pytest.fixture
def record(start_worker: StartWorker, db: Database, tmp_path: Path) -> Callable[..., Recorded]:
    def start(*options: str, env: dict[str, str] | None = None, before: tuple[str, ...] = ()) -> Recorded:
        file = tmp_path / "calls"
        environment = {"HOOK_CALLS": str(file), "PGTASKS_PLUGINS": "tests.hooks.recorder", **(env or {})}
        worker = start_worker(*options, modules=("tests.hooks.jobs",), env=environment, before=before)
        return Recorded(worker, file, db)

    return start
