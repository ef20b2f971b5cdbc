"""`pgtasks ratelimit`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import Done, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def ratelimit(database: str, tmp_path: Path) -> Callable[..., Done]:
    env = {
        "PGTASKS_DATABASE_URL": database,
        "PGTASKS_PLUGINS": "pgtasks_ratelimit",
        "PGTASKS_PLUGIN_RATELIMIT__LIMITS": json.dumps({"stripe": "100/s", "pdf": "max 4 running"}),
        "PYTHONPATH": ":".join(sys.path),
    }
    return lambda *arguments: run("ratelimit", *arguments, cwd=tmp_path, env=env)


def test_limits_are_set_listed_and_removed(ratelimit: Callable[..., Done]) -> None:
    assert ratelimit("set", "stripe", "5/s burst 2").code == 0
    assert [line.split() for line in ratelimit("list").out.splitlines()] == [
        ["pdf", "max", "4", "running", "settings"],
        ["stripe", "5/s", "burst", "2", "set", "at", "run", "time"],
    ]
    assert ratelimit("remove", "stripe").code == 0
    assert "100/s" in ratelimit("list").out


def test_a_rule_that_cannot_be_read_is_refused(ratelimit: Callable[..., Done]) -> None:
    done = ratelimit("set", "stripe", "quick")
    assert done.code != 0
    assert "limit 'stripe': cannot read 'quick': write a rate such as" in done.err


def test_what_was_not_set_cannot_be_removed(ratelimit: Callable[..., Done]) -> None:
    ratelimit("set", "stripe", "5/s")
    done = ratelimit("remove", "stripes")
    assert done.code != 0
    assert "no limit 'stripes' was set at run time (there are: 'stripe')" in done.err
