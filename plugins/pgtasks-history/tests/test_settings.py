from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError

from pgtasks_history import HistorySettings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", dt.timedelta(seconds=90)),
        ("30d", dt.timedelta(days=30)),
        ("1w2d3h", dt.timedelta(days=9, hours=3)),
        ("none", None),
        (dt.timedelta(hours=1), dt.timedelta(hours=1)),
    ],
)
def test_how_long_entries_are_kept_is_written_as_people_do(text: Any, expected: dt.timedelta | None) -> None:
    assert HistorySettings(keep=text).keep == expected


@pytest.mark.parametrize("text", ["", "30", "d", "1y", "-1d", "1 d", "9" * 5000 + "d", "101w9999999d", 30, True])
def test_another_text_is_refused(text: Any) -> None:
    with pytest.raises(ValidationError, match="keep"):
        HistorySettings(keep=text)


def test_thirty_days_are_kept_and_payloads_are_not_recorded_by_default() -> None:
    assert HistorySettings() == HistorySettings(keep="30d", payload=False)  # type: ignore[arg-type]
