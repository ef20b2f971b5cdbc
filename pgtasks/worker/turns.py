"""How long a process may go on with a named queue before others have their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgtasks.job import OutcomeKind

if TYPE_CHECKING:
    from pgtasks.job import Completion

TURN_SECONDS = 0.25
"""A queue that was kept for so long is unlocked, so that its next job is claimed in its turn: after what comes before
it, of other queues or of better priority, and by whichever process has room. Where it is dear to look everywhere, it is
kept for as long as it may then have to wait for such a look."""


class Turns:
    """The queues that this process goes on with, and since when. Times are monotonic."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}

    def __contains__(self, queue: str) -> bool:
        return queue in self._began

    def goes_on(self, completion: Completion, now: float, pause: float) -> bool:
        """Return whether the process may keep the queue of a job that has ended, and take the next one of it.

        `pause` is how many seconds a queue that is let go may have to wait until it is found.
        """
        queue = completion.job.queue
        if queue is None:
            return False
        began = self._began.setdefault(queue, now - completion.seconds)
        succeeded = completion.outcome.kind is OutcomeKind.SUCCESS and not completion.written
        # Where jobs are ended and the next ones taken, no results are written.
        if succeeded and completion.result_json is None and now - began < max(TURN_SECONDS, pause):
            return True
        self.end(queue)
        return False

    def end(self, queue: str) -> None:
        """Take note that the process has not got the next job of a queue."""
        self._began.pop(queue, None)
