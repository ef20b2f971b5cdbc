"""The users, in the database that has the jobs, too."""

from typing import Any

import psycopg
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.schema import CreateSchema

from pgtasks import current_app


class Base(DeclarativeBase):
    """All tables of the example, in a schema of its own."""

    metadata = MetaData(schema="signup")


class User(Base):
    """Somebody who has signed up."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]


async def connect() -> psycopg.AsyncConnection[Any]:
    """Connect to where pgtasks is, be it embedded. An application that has a URL gives that to the engine instead."""
    return await psycopg.AsyncConnection.connect(current_app().database.conninfo)


engine = create_async_engine("postgresql+psycopg://", async_creator=connect)
Session = async_sessionmaker(engine, expire_on_commit=False)


async def create_tables() -> None:
    """Make what is not there yet."""
    async with engine.begin() as connection:
        await connection.execute(CreateSchema("signup", if_not_exists=True))
        await connection.run_sync(Base.metadata.create_all)
