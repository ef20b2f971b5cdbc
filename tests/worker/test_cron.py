"""A real worker with entries from its crontab, its code and a plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worker.conftest import Database, StartWorker

APP = """
from pgtasks import App, JobContext
from pgtasks.plugins import CronEntry, Schedule, hookimpl

class Plugin:
    @hookimpl
    def register_cron(self, app):
        return [CronEntry(id="plugin", task="stamp", schedule=Schedule("* * * * *"), source="plugin", backfill=600)]

app = App(plugins=[Plugin()])

@app.task.cron("* * * * *", id="code", backfill="10m", payload={"text": "code"})
@app.task
def stamp(payload: dict, ctx: JobContext) -> None:
    assert payload["_cron"]["ts"]
    with ctx.connection() as connection:
        connection.execute(
            "insert into public.effects (job_id, attempt, what) values (%s, %s, %s)",
            (ctx.job.id, ctx.attempt, payload.get("text", "plugin")),
        )
"""
CRONTAB = "* * * * *  stamp  ?id=file&fill=10m  {text: 'file'}\n0 0 30 2 *  stam\n"


def test_a_worker_adds_jobs_at_the_times_of_its_crontab_its_code_and_its_plugins(
    db: Database, start_worker: StartWorker, tmp_path: Path
) -> None:
    (tmp_path / "times.py").write_text(APP)
    (tmp_path / "crontab").write_text(CRONTAB)
    db.connection.execute("""
        insert into graphile_worker._private_known_crontabs (identifier, known_since, last_execution)
        select name, now() - interval '1 day', now() - interval '3 minutes'
        from unnest('{code,file,plugin}'::text[]) name
    """)
    worker = start_worker("--processes", "1", modules=("times",), cwd=tmp_path)
    for what in ("code", "file", "plugin"):
        db.wait_for_effects(2, what)
    worker.wait_for("crontab_questionable", count=2)
    messages = [(each["place"], each["message"]) for each in worker.records("crontab_questionable")]
    assert messages == [
        (f"{tmp_path}/crontab:2:1", "there is no such day in any year: the task is never run"),
        (f"{tmp_path}/crontab:2:13", "task 'stam' is not registered; did you mean 'stamp'?"),
    ]
    assert worker.stop() == 0


def test_a_worker_does_not_start_with_a_crontab_that_has_mistakes_or_an_id_twice(
    db: Database, start_worker: StartWorker, tmp_path: Path
) -> None:
    (tmp_path / "times.py").write_text(APP)
    (tmp_path / "wrong").write_text("60 * * * * stamp\n")
    (tmp_path / "double").write_text("* * * * * stamp ?id=code\n")
    wrong = start_worker("--crontab", "wrong", modules=("times",), cwd=tmp_path)
    double = start_worker("--crontab", "double", modules=("times",), cwd=tmp_path)
    assert (wrong.wait(), double.wait()) == (2, 2)
    assert f"{tmp_path}/wrong:1:1: minute 60 is out of range" in wrong.text
    assert f"cron entry 'code' is there twice: at {tmp_path}/double:1 and at times.py:12" in double.text
