"""An application that adds a job while it is imported."""

from pgtasks import App, task

app = App()


@task
def never(payload: object) -> None:
    """Not reached."""


app.add_job("never")
