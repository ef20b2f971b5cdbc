"""What handlers return, on its way to the database: of tasks that store results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pgtasks.errors import PayloadError
from pgtasks.job import Outcome, OutcomeKind
from pgtasks.worker.calling import InvalidPayload

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pgtasks.app import App
    from pgtasks.hookdata import PayloadCodec
    from pgtasks.tasks import AnyTask

LONGEST: Final = 32_000_000
"""Characters of a result. How long libpq takes to send it grows by the square of its length, and all other ends wait
meanwhile; one that takes longer than a statement may would be tried for ever."""


class InvalidResult(InvalidPayload):
    """What a handler has returned cannot be stored. Another attempt would most likely return the same."""


def kept_by_task(app: App) -> Mapping[str, float]:
    """Return for how many seconds results are kept, of the tasks that store them."""
    usual = app.settings.result_ttl
    stores = {task.name: task.options.store_result for task in app.registry}
    return {name: usual if store is True else float(store) for name, store in stores.items() if store is not False}


def result_json(task: AnyTask, result: Any, codec: PayloadCodec | None) -> str:
    """Return what is stored for what a handler has returned: null for a list that has forgotten items of a batch.

    Raises:
        InvalidResult: that is none of what can be.
    """
    forgets = isinstance(result, list | tuple) and any(isinstance(each, BaseException) for each in result)
    try:
        text = "null" if forgets else task.result.write(result)
    except PayloadError as error:
        raise _invalid(str(error)) from None
    if codec is not None:
        text = codec.encode(text)
    if len(text) > LONGEST:
        raise _invalid(f"it has {len(text):,} characters as JSON, and may have {LONGEST:,}")
    return text


def _invalid(reason: str) -> InvalidResult:
    return InvalidResult(Outcome(OutcomeKind.FAIL, f"the result cannot be stored: {reason}"))
