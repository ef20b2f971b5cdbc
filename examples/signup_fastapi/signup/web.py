"""The application: `uvicorn signup.web:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError

from pgtasks import current_app
from signup.database import Session, User, engine
from signup.tasks import send_welcome


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the connections at the end."""
    yield
    await engine.dispose()
    await current_app().aclose()


app = FastAPI(lifespan=lifespan)


class SignUp(BaseModel):
    """What people fill in."""

    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    name: str = Field(min_length=1)


@app.post("/users", status_code=201)
async def sign_up(form: SignUp) -> dict[str, int]:
    """Store a user and add the job that sends the mail. What goes wrong, if only at the commit, undoes both."""
    user = User(email=form.email, name=form.name)
    mail = send_welcome.args(to=form.email, name=form.name)
    try:
        async with Session.begin() as session:
            session.add(user)
            await send_welcome.defer_async(mail, connection=session)
    except IntegrityError:
        raise HTTPException(409, f"{form.email} has signed up already") from None
    return {"id": user.id}
