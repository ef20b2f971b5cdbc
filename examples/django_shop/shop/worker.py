"""What `pgtasks worker shop.worker` imports: Django first, then the tasks."""

import contextlib
import os
from collections.abc import Iterator

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from django.db import close_old_connections  # noqa: E402

from pgtasks import App, hookimpl  # noqa: E402


class DjangoConnections:
    """Keeps Django's connections in order, as a request does: one that has broken is opened anew for the next job."""

    @hookimpl
    @contextlib.contextmanager
    def job_context(self) -> Iterator[None]:
        """Close what is broken or too old, before a job and after it."""
        close_old_connections()
        try:
            yield
        finally:
            close_old_connections()


app = App(plugins=[DjangoConnections()])

import orders.tasks  # noqa: E402, F401
