"""Names of attributes, as the semantic conventions for messaging have them, and of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgtasks import Job, JobSpec

SYSTEM: Final = "messaging.system"
OPERATION: Final = "messaging.operation.name"
OPERATION_TYPE: Final = "messaging.operation.type"
DESTINATION: Final = "messaging.destination.name"
PARTITION: Final = "messaging.destination.partition.id"
BATCH: Final = "messaging.batch.message_count"
MESSAGE: Final = "messaging.message.id"
BODY_SIZE: Final = "messaging.message.body.size"
CLIENT: Final = "messaging.client.id"
ERROR: Final = "error.type"
ATTEMPT: Final = "pgtasks.job.attempt"
MAX_ATTEMPTS: Final = "pgtasks.job.max_attempts"
KEY: Final = "pgtasks.job.key"
OUTCOME: Final = "pgtasks.job.outcome"
STATE: Final = "pgtasks.job.state"

Attributes = dict[str, str | int]


def of_add(task: str, specs: list[JobSpec]) -> Attributes:
    """Return what is to be said of jobs of one task that are about to be added."""
    said: Attributes = {
        SYSTEM: "pgtasks",
        OPERATION: "create",
        OPERATION_TYPE: "create",
        DESTINATION: task,
    }
    if len(specs) > 1:
        said[BATCH] = len(specs)
    elif specs[0].queue is not None:
        said[PARTITION] = specs[0].queue
    return said


def of_run(job: Job) -> Attributes:
    """Return what is to be said of a run."""
    payload = job.payload_json
    said: Attributes = {
        SYSTEM: "pgtasks",
        OPERATION: "process",
        OPERATION_TYPE: "process",
        DESTINATION: job.task,
        MESSAGE: str(job.id),
        BODY_SIZE: len(payload) if isinstance(payload, bytes) or payload.isascii() else len(payload.encode()),
        ATTEMPT: job.attempts,
        MAX_ATTEMPTS: job.max_attempts,
    }
    if job.queue is not None:
        said[PARTITION] = job.queue
    if job.key is not None:
        said[KEY] = job.key
    if job.locked_by is not None:
        said[CLIENT] = job.locked_by
    return said


def name_of(error: BaseException) -> str:
    """Return the name of an exception's type."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
