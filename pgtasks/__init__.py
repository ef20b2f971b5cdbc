"""A distributed task framework for Python whose only server is PostgreSQL.

>>> from pgtasks import task
>>> @task
... def greet(payload): print("hello", payload["name"])
>>> job = greet.defer({"name": "Ada"})  # doctest: +SKIP
"""

from pgtasks.app import App, current_app, task
from pgtasks.context import JobContext
from pgtasks.errors import (
    AppLoadError,
    BreakingMigrationError,
    CrashLoopError,
    DatabaseUnavailableError,
    JobOptionError,
    PayloadError,
    PgtasksError,
    SchemaPendingError,
    SchemaRefusedError,
    SettingsError,
    ShutdownForcedError,
    TaskDefinitionError,
)
from pgtasks.job import Job, JobKeyMode, JobSpec
from pgtasks.registry import Registry
from pgtasks.settings import Settings
from pgtasks.tasks import Task

__version__ = "0.1.0"

__all__ = [
    "App",
    "AppLoadError",
    "BreakingMigrationError",
    "CrashLoopError",
    "DatabaseUnavailableError",
    "Job",
    "JobContext",
    "JobKeyMode",
    "JobOptionError",
    "JobSpec",
    "PayloadError",
    "PgtasksError",
    "Registry",
    "SchemaPendingError",
    "SchemaRefusedError",
    "Settings",
    "SettingsError",
    "ShutdownForcedError",
    "Task",
    "TaskDefinitionError",
    "__version__",
    "current_app",
    "task",
]
