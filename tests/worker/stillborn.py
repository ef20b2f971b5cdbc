"""An application whose worker processes die as soon as they are forked."""

import os

from pgtasks import task


@task(name="never_run")
def never_run(payload: object) -> None:
    """Not reached."""


os.register_at_fork(after_in_child=lambda: os._exit(3))
