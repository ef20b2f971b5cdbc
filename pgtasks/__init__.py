"""A distributed task framework for Python whose only server is PostgreSQL.

>>> from pgtasks import task
>>> @task
... def greet(payload): print("hello", payload["name"])
>>> job = greet.defer({"name": "Ada"})  # doctest: +SKIP
"""

from pgtasks.administration import AsyncJobs, Jobs
from pgtasks.app import App, current_app, task
from pgtasks.batches import BatchResult
from pgtasks.context import Abort, JobContext, current_job
from pgtasks.errors import (
    AppLoadError,
    BreakingMigrationError,
    CrashLoopError,
    CronError,
    DatabaseUnavailableError,
    ForkUnsafeError,
    JobAbortedError,
    JobCancelledError,
    JobFailedError,
    JobOptionError,
    JobResultError,
    JobTimeoutError,
    JobWaitTimeoutError,
    LeftUndoneError,
    PayloadError,
    PgtasksError,
    PluginError,
    ProblemsFoundError,
    SchemaPendingError,
    SchemaRefusedError,
    SettingsError,
    ShutdownForcedError,
    TaskDefinitionError,
    UnhealthyError,
)
from pgtasks.flow import Cancel, Fail, Retry, Snooze
from pgtasks.hookspecs import hookimpl
from pgtasks.job import Job, JobKeyMode, JobSpec
from pgtasks.progress import JobProgress
from pgtasks.queue.admin import (
    CleanupOperation,
    CleanupResult,
    JobChange,
    JobPage,
    JobState,
    QueueInfo,
    TaskInfo,
    WorkerInfo,
)
from pgtasks.queue.cancel import CancelState, JobCancellation
from pgtasks.queue.timetables import Timetable
from pgtasks.registry import Registry
from pgtasks.retry import Backoff
from pgtasks.settings import Settings
from pgtasks.tasks import Task
from pgtasks.timetables import AsyncTimetables, Timetables

__version__ = "0.1.0"

__all__ = [
    "Abort",
    "App",
    "AppLoadError",
    "AsyncJobs",
    "AsyncTimetables",
    "Backoff",
    "BatchResult",
    "BreakingMigrationError",
    "Cancel",
    "CancelState",
    "CleanupOperation",
    "CleanupResult",
    "CrashLoopError",
    "CronError",
    "DatabaseUnavailableError",
    "Fail",
    "ForkUnsafeError",
    "Job",
    "JobAbortedError",
    "JobCancellation",
    "JobCancelledError",
    "JobChange",
    "JobContext",
    "JobFailedError",
    "JobKeyMode",
    "JobOptionError",
    "JobPage",
    "JobProgress",
    "JobResultError",
    "JobSpec",
    "JobState",
    "JobTimeoutError",
    "JobWaitTimeoutError",
    "Jobs",
    "LeftUndoneError",
    "PayloadError",
    "PgtasksError",
    "PluginError",
    "ProblemsFoundError",
    "QueueInfo",
    "Registry",
    "Retry",
    "SchemaPendingError",
    "SchemaRefusedError",
    "Settings",
    "SettingsError",
    "ShutdownForcedError",
    "Snooze",
    "Task",
    "TaskDefinitionError",
    "TaskInfo",
    "Timetable",
    "Timetables",
    "UnhealthyError",
    "WorkerInfo",
    "__version__",
    "current_app",
    "current_job",
    "hookimpl",
    "task",
]
