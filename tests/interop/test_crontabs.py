"""One crontab file for both."""

from __future__ import annotations

import json
import random
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pgtasks.cron.crontab import parse_crontab
from tests.interop.releases import HERE

if TYPE_CHECKING:
    from pgtasks.cron.entry import CronEntry
    from tests.interop.releases import Release

NUMBERS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
REST = [
    "",
    "?id=x{0}_-",
    "?fill=4w3d2h1m5s&max=7",
    "?jobKey=a%20b+c%26&jobKeyMode=preserve_run_at",
    "?priority=-3&queue=a:b-c_1&",
    "?priority=0 {{}}",
    "\t {{a: 'x\\u00e9', /* c */ \"b\": [1, .5, 0x1F, +1, -1e3, null, true,],}}",
    "?max=1 {{nested: {{deep: ['}}', \"#\", '?a=b']}}}}",
]


def field(chance: random.Random, first: int, last: int) -> str:
    def part() -> str:
        low = chance.randint(first, last - 1)
        any_of = (
            "*",
            "*",
            f"*/{chance.randint(1, last + 9)}",
            f"{low}",
            f"{low}-{chance.randint(low + 1, last)}",
            f"{last:02}",
        )
        return chance.choice(any_of)

    return ",".join(part() for _ in range(chance.choice((1, 1, 1, 3))))


def as_graphile_says(entry: CronEntry) -> dict[str, Any]:
    options = {
        "backfillPeriod": entry.backfill * 1000,
        "maxAttempts": entry.max_attempts,
        "queueName": entry.queue,
        "priority": entry.priority,
        "jobKey": entry.job_key,
        "jobKeyMode": entry.job_key_mode,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return {"identifier": entry.id, "task": entry.task, "options": given, "payload": entry.payload}


def test_a_crontab_says_the_same_to_both(release: Release) -> None:
    chance = random.Random(8)
    lines = ["# comment", ""]
    for number in range(200):
        fields = "  ".join(field(chance, *numbers) for numbers in NUMBERS)
        lines.append(f"{fields} task_{number}:a/b-c {chance.choice(REST).format(number)}".rstrip())
    text = "\r\n".join(lines) + "\n"
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [start + timedelta(minutes=chance.randrange(4 * 366 * 24 * 60)) for _ in range(500)]
    digests = [[each.minute, each.hour, each.day, each.month, each.isoweekday() % 7] for each in moments]
    asked = json.dumps({"text": text, "moments": digests})
    command = [str(release.node), str(HERE / "runner.mjs"), str(release.package), "crontab", asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=HERE)
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    ours = parse_crontab(text).entries()
    assert len(theirs) == len(ours) == 200
    for its, entry in zip(theirs, ours, strict=True):
        matches = its.pop("matches")
        assert as_graphile_says(entry) == its
        assert [entry.schedule.matches(moment) for moment in moments] == matches, entry.schedule
