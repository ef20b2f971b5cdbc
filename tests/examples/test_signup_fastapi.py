"""examples/signup_fastapi: a user is stored and the mail's job added in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tests.examples.running import EXAMPLES, copy_of, run

if TYPE_CHECKING:
    from pathlib import Path

[EXAMPLE] = (example for example in EXAMPLES if example.name == "signup_fastapi")

SIGN_UP_TWICE = """
import asyncio
from fastapi import HTTPException
from signup.database import create_tables
from signup.web import SignUp, app, lifespan, sign_up

async def main():
    await create_tables()
    async with lifespan(app):
        ada = SignUp(email="ada@example.com", name="Ada")
        for _ in range(2):
            try:
                print("id", (await sign_up(ada))["id"])
            except HTTPException as refusal:
                print(refusal.status_code)

asyncio.run(main())
"""


def test_a_sign_up_that_fails_at_the_commit_leaves_neither_a_user_nor_a_job(database: str, tmp_path: Path) -> None:
    assert run("-c", SIGN_UP_TWICE, here=copy_of(EXAMPLE, tmp_path), database=database) == "id 1\n409\n"
    with psycopg.connect(database) as conn:
        users = conn.execute("select email from signup.users").fetchall()
        jobs = conn.execute("select id, task_identifier from graphile_worker.jobs").fetchall()
        later = conn.execute("select id from graphile_worker.add_job('later')").fetchall()
    assert (users, jobs) == ([("ada@example.com",)], [(1, "send_welcome")])
    assert later == [(3,)], "the second sign-up has added a job, too, before it failed"
