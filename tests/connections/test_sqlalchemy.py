"""SQLAlchemy's sessions and connections: jobs are a part of their transactions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import MetaData, Table, create_engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from pgtasks.errors import JobOptionError, PayloadError
from pgtasks.testing import assert_deferred, run_jobs, run_jobs_async, use_connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from pgtasks import App, JobContext, Task

    Committed = Callable[[], list[Any]]
    OpenEngine = Callable[[], AbstractAsyncContextManager[AsyncEngine]]

MANY = list(range(100, 135))
"""More than one statement adds, so that there is a savepoint of ours."""


def blocking(kind: str, engine: Engine) -> Any:
    match kind:
        case "Session":
            return Session(engine)
        case "scoped_session":
            return scoped_session(sessionmaker(engine))
    return engine.connect()


@pytest.mark.parametrize("kind", ["Session", "scoped_session", "Connection"])
def test_jobs_are_committed_and_rolled_back_with_the_transaction(
    kind: str, engine: Engine, send: Task[Any, ..., Any], app: App, committed: Committed
) -> None:
    owner = blocking(kind, engine)
    send.defer(1, connection=owner)  # nothing else is done in this transaction
    assert committed() == []
    owner.commit()
    assert committed() == [1]

    owner.execute(text("insert into note values (1)"))
    send.defer(2, connection=owner)
    send.defer_many(MANY, connection=owner)
    owner.rollback()
    send.defer_many(MANY, connection=owner)  # begins one, and does not end it
    assert committed() == [1]
    owner.rollback()
    assert committed() == [1]

    app.add_job("other", 3, connection=owner)
    with owner.begin_nested() as savepoint:
        owner.execute(text("insert into note values (2)"))
        send.defer(4, connection=owner)
        send.defer(4, job_key="k", job_key_mode="unsafe_dedupe", connection=owner)
        send.defer(4, job_key="k", job_key_mode="unsafe_dedupe", connection=owner)
        send.defer_many(MANY, connection=owner)
        savepoint.rollback()
    with owner.begin_nested():
        owner.execute(text("insert into note values (3)"))
        send.defer_many(MANY, connection=owner)
        assert len(app.jobs.list(connection=owner).jobs) == len([1, 3, *MANY])
    assert committed() == [1]
    owner.commit()
    assert committed() == [1, 3, *MANY, "note 3"]
    owner.close()


def asynchronous(kind: str, engine: AsyncEngine) -> Any:
    match kind:
        case "AsyncSession":
            return AsyncSession(engine)
        case "async_scoped_session":
            return async_scoped_session(async_sessionmaker(engine), scopefunc=asyncio.current_task)
    return engine.connect()


@pytest.mark.parametrize("kind", ["AsyncSession", "async_scoped_session", "AsyncConnection"])
def test_jobs_are_committed_and_rolled_back_with_the_asyncio_transaction(
    kind: str, async_engine: OpenEngine, send: Task[Any, ..., Any], app: App, committed: Committed
) -> None:
    async def add(owner: Any) -> None:
        await send.defer_async(1, connection=owner)
        assert committed() == []
        await owner.commit()
        assert committed() == [1]

        await owner.execute(text("insert into note values (1)"))
        await send.defer_async(2, connection=owner)
        await send.defer_many_async(MANY, connection=owner)
        await owner.rollback()
        await send.defer_many_async(MANY, connection=owner)
        assert committed() == [1]
        await owner.rollback()
        assert committed() == [1]

        await app.add_job_async("other", 3, connection=owner)
        async with owner.begin_nested() as savepoint:
            await owner.execute(text("insert into note values (2)"))
            await send.defer_async(4, connection=owner)
            await send.defer_many_async(MANY, connection=owner)
            await savepoint.rollback()
        async with owner.begin_nested():
            await owner.execute(text("insert into note values (3)"))
            await send.defer_many_async(MANY, connection=owner)
            assert len((await app.jobs_async.list(connection=owner)).jobs) == len([1, 3, *MANY])
        assert committed() == [1]
        await owner.commit()
        assert committed() == [1, 3, *MANY, "note 3"]

    async def run() -> None:
        async with async_engine() as engine:
            owner = asynchronous(kind, engine)
            if kind == "AsyncConnection":
                await owner.start()
            await add(owner)
            await owner.close()

    asyncio.run(run())


def test_the_blocks_that_begin_and_end_a_transaction_take_jobs(
    engine: Engine, send: Task[Any, ..., Any], committed: Committed
) -> None:
    with engine.begin() as connection:
        send.defer(1, connection=connection)
    with Session(engine) as session, session.begin():
        send.defer(2, connection=session)
    with Session(engine) as session:
        send.defer(3, connection=session)  # and nobody commits
    assert committed() == [1, 2]


def test_a_session_on_a_connection_adds_in_the_transaction_of_that(
    engine: Engine, send: Task[Any, ..., Any], committed: Committed
) -> None:
    with engine.connect() as outer, outer.begin() as transaction:
        with Session(outer, join_transaction_mode="create_savepoint") as session:
            send.defer(1, connection=session)
            session.commit()
            send.defer(2, connection=session)
            session.rollback()
        assert [row[0] for row in outer.execute(text("select payload from graphile_worker._private_jobs"))] == [1]
        transaction.rollback()
    assert committed() == []


def test_in_autocommit_mode_jobs_are_there_at_once(
    engine: Engine, send: Task[Any, ..., Any], committed: Committed
) -> None:
    with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        send.defer(1, connection=session)
        send.defer_many(MANY, connection=session)
        assert committed() == [1, *MANY]


def test_sqlalchemys_events_tell_of_the_transaction(engine: Engine, send: Task[Any, ..., Any]) -> None:
    told = []
    for name in ("begin", "commit"):
        event.listen(engine, name, lambda _, name=name: told.append(name))
    with Session(engine) as session:
        event.listen(session, "after_commit", lambda _: told.append("after_commit"))
        send.defer(1, connection=session)
        session.commit()
    assert told == ["begin", "commit", "after_commit"]


def test_a_payload_that_is_refused_leaves_the_transaction_as_it_was(
    engine: Engine, send: Task[Any, ..., Any], committed: Committed
) -> None:
    with Session(engine) as session:
        session.execute(text("insert into note values (1)"))
        with pytest.raises(PayloadError):
            send.defer(object(), connection=session)
        session.commit()
    assert committed() == ["note 1"]


def test_of_several_databases_the_session_has_to_say_which(
    engine: Engine, send: Task[Any, ..., Any], committed: Committed
) -> None:
    with Session(binds={Table("note", MetaData()): engine}) as session:
        with pytest.raises(
            JobOptionError, match=r"cannot be a sqlalchemy\.Session here: it has no database .*bind_arguments"
        ):
            send.defer(1, connection=session)
        send.defer(2, connection=session.connection(bind_arguments={"bind": engine}))
        session.commit()
    assert committed() == [2]


def test_a_transaction_of_two_phases_takes_jobs_that_notify_nobody(
    engine: Engine, send: Task[Any, ..., Any], committed: Committed
) -> None:
    with Session(engine, twophase=True) as session:
        send.defer(1, notify=False, connection=session)
        send.defer_many(MANY, notify=False, connection=session)
        session.commit()
        assert committed() == [1, *MANY]
        with pytest.raises(JobOptionError, match="no notification in a transaction of two phases: pass notify=False"):
            send.defer(2, connection=session)


# What cannot be used


def test_a_transaction_that_has_failed_takes_no_jobs(
    engine: Engine, async_engine: OpenEngine, send: Task[Any, ..., Any], committed: Committed
) -> None:
    failed = pytest.raises(JobOptionError, match=r"of the given sqlalchemy\.\w*Session has failed, .*: roll it back")

    async def add() -> None:
        async with async_engine() as other, AsyncSession(other) as session:
            with pytest.raises(DBAPIError, match="division by zero"):
                await session.execute(text("select 1/0"))
            with failed:
                await send.defer_async(1, connection=session)

    with Session(engine) as session:
        with pytest.raises(DBAPIError, match="division by zero"):
            session.execute(text("select 1/0"))
        with failed:
            send.defer(1, connection=session)
        session.rollback()
        session.connection().invalidate()
        with pytest.raises(JobOptionError, match=r"given sqlalchemy\.Session takes no jobs now: .* rolled back"):
            send.defer(1, connection=session)
        session.rollback()
        send.defer(2, connection=session)
        session.commit()
    asyncio.run(add())
    assert committed() == [2]


def test_what_is_closed_takes_no_jobs(engine: Engine, send: Task[Any, ..., Any]) -> None:
    connection = engine.connect()
    connection.close()
    with pytest.raises(
        JobOptionError, match=r"given sqlalchemy\.Connection takes no jobs now: This Connection is closed"
    ):
        send.defer(1, connection=connection)
    session = Session(engine, close_resets_only=False)
    session.close()
    with pytest.raises(
        JobOptionError, match=r"given sqlalchemy\.Session takes no jobs now: This Session has been perm"
    ):
        send.defer(1, connection=session)
    unbegun = Session(engine, autobegin=False)
    with pytest.raises(JobOptionError, match=r"takes no jobs now: Autobegin is disabled .* call session\.begin\(\)"):
        send.defer(1, connection=unbegun)
    with Session(engine) as session:
        session.connection().connection.driver_connection.close()  # type: ignore[union-attr]
        with pytest.raises(
            JobOptionError, match=r"connection of the given sqlalchemy\.Session is closed: open another"
        ):
            send.defer(1, connection=session)
        session.invalidate()


def test_a_transaction_that_only_reads_takes_no_jobs(engine: Engine, send: Task[Any, ..., Any]) -> None:
    with engine.connect() as connection:
        connection.execution_options(postgresql_readonly=True)
        with pytest.raises(JobOptionError, match=r"cannot write .*: give one that can"):
            send.defer(1, connection=connection)


def test_a_dialect_without_psycopg_is_named_before_anything_is_connected(send: Task[Any, ..., Any]) -> None:
    nowhere = "127.0.0.1:1/x"
    for url, name in (
        (
            f"postgresql+psycopg2://{nowhere}",
            r"postgresql\+psycopg2: .* begins with postgresql\+psycopg://, or call the",
        ),
        ("sqlite://", r"sqlite\+pysqlite, and jobs are added to PostgreSQL: leave it out"),
    ):
        other = create_engine(url)
        for owner in (Session(other), scoped_session(sessionmaker(other))):
            with pytest.raises(JobOptionError, match=f"it is on {name}"):
                send.defer(1, connection=owner)
    with create_engine("sqlite://").connect() as connection, pytest.raises(JobOptionError, match=r"is on sqlite\+pysq"):
        send.defer(1, connection=connection)
    session = AsyncSession(create_async_engine(f"postgresql+asyncpg://{nowhere}"))
    with pytest.raises(JobOptionError, match=r"is on postgresql\+asyncpg: .* add_job .* takes part in its transaction"):
        asyncio.run(send.defer_async(1, connection=session))


def test_the_wrong_kind_is_named_with_what_to_do(
    engine: Engine, async_engine: OpenEngine, send: Task[Any, ..., Any], committed: Committed
) -> None:
    async def add() -> None:
        async with async_engine() as other:
            for_asyncio = {
                AsyncSession(other): r"sqlalchemy\.AsyncSession here: it is for asyncio code: await the method",
                async_scoped_session(async_sessionmaker(other), asyncio.current_task): "async_scoped_session here: it",
                other.connect(): "AsyncConnection here: it is for asyncio code",
                other: "AsyncEngine here: give the connection .* `async with engine",
                async_sessionmaker(other): "async_sessionmaker here: it makes sessions: call it",
                AsyncSession(
                    other
                ).sync_session: "Session here: it belongs to an asyncio engine: give the AsyncSession",
            }
            for owner, match in for_asyncio.items():
                with pytest.raises(JobOptionError, match=match):
                    send.defer(1, connection=owner)  # type: ignore[call-overload]
            for owner in (Session(engine), scoped_session(sessionmaker(engine)), engine.connect()):
                with pytest.raises(JobOptionError, match=r"it is for blocking code: call the method without `_async`"):
                    await send.defer_async(1, connection=owner)  # type: ignore[call-overload]
                owner.close()

    asyncio.run(add())
    with engine.connect() as connection:
        others = {
            engine: "Engine here: give the connection or session .* `with engine",
            sessionmaker(engine): "sessionmaker here: it makes sessions: call it",
            engine.pool: "QueuePool here: give the connection or session",
            connection.connection: r"_ConnectionFairy here: give its `driver_connection`",
            engine.url: "URL here: it is an address",
        }
        for owner, match in others.items():
            with pytest.raises(JobOptionError, match=match):
                send.defer(1, connection=owner)  # type: ignore[call-overload]
    assert committed() == []


def test_jobs_run_in_the_transaction_of_a_test(
    engine: Engine, async_engine: OpenEngine, app: App, committed: Committed
) -> None:
    @app.task
    def write(payload: int, ctx: JobContext) -> None:
        with ctx.connection() as connection:
            connection.execute("insert into note values (%s)", [payload])

    @app.task
    async def write_async(payload: int, ctx: JobContext) -> None:
        async with ctx.async_connection() as connection:
            await connection.execute("insert into note values (%s)", [payload])

    async def run() -> None:
        async with async_engine() as opened, AsyncSession(opened) as session:
            await write_async.defer_async(2, connection=session)
            assert len(await run_jobs_async(app=app, connection=session)) == 1
            assert list(await session.scalars(text("select n from note"))) == [2]

    with Session(engine) as session, use_connection(session):
        write.defer(1)
        assert_deferred(write, 1, app=app)
        assert len(run_jobs(app=app)) == 1
        assert list(session.scalars(text("select n from note"))) == [1]
    asyncio.run(run())
    assert committed() == []
