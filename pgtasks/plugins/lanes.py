"""Threads that plugins' functions run in, so that nothing else waits for them longer than it wants to.

A lane is one thread of one plugin's: calls run in it one after the other, in order. It is started by the first call and
does not keep the process alive. A lane whose call takes too long is given up: a new thread goes on with what waits, and
the old one ends by itself should its call ever return.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import math
import os
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

OBSERVER_SECONDS: Final = 30.0
"""How long an observer may take for one call before it is given up."""
FULL: Final = 5_000
"""So many calls may wait in a lane; those that come then are dropped."""
_EXIT_SECONDS: Final = 2.0
"""How long the end of a program waits for what its plugins were told last."""


class Call:
    """A call that is under way, or has ended."""

    __slots__ = ("began", "ended")

    def __init__(self, *, waits: bool = False) -> None:
        self.began: float = math.inf if waits else time.monotonic()
        """When it was begun; infinite as long as it waits for others."""
        self.ended = False

    @property
    def under_way(self) -> bool:
        """Whether it has begun and not ended."""
        return self.began < math.inf and not self.ended

    def begin(self) -> None:
        """Note that it does not wait any more."""
        self.began = time.monotonic()


class Lane:
    """A thread that makes calls one after the other.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._pid = 0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self.current: Call | None = None
        """The call that is under way."""

    @property
    def full(self) -> bool:
        """Whether no more should be put in."""
        return self._calls.qsize() >= FULL

    def put(self, call: Callable[[], None]) -> None:
        """Have `call` made; what it raises is dropped.

        Raises:
            RuntimeError: no thread can be had.
        """
        if self._pid != os.getpid():
            self._start()
        self._calls.put(call)

    def give_up(self) -> None:
        """Leave the thread to the call that it is stuck in, and go on with another one."""
        self._pid = 0
        self.current = None
        if self._calls.qsize():
            with contextlib.suppress(RuntimeError):  # without a thread they wait for the next call that is put in
                self._start()

    def flush(self, seconds: float) -> bool:
        """Wait until all calls that were put in have been made, or so many seconds; returns whether they have."""
        if self._pid != os.getpid():
            return True
        done = threading.Event()
        self._calls.put(done.set)
        return done.wait(seconds)

    def _start(self) -> None:
        with self._starting:
            pid = os.getpid()
            if self._pid == pid:
                return
            if self._thread is not None and not self._thread.is_alive():
                self._calls = SimpleQueue()  # forked: what waits in the parent is the parent's
            self.current = None
            before = self._thread
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = before
                raise
            self._pid = pid

    def _work(self) -> None:
        me = threading.current_thread()
        while me is self._thread:
            call = self._calls.get()
            if me is not self._thread:
                self._calls.put(call)
                return
            self.current = current = Call()
            with contextlib.suppress(BaseException):  # or all that is put in later would wait for ever
                call()
            current.ended = True
            if me is self._thread:
                self.current = None


async def in_lane(lane: Lane, function: Callable[[], Any], noted: Call | None = None) -> Any:
    """Call `function` in a lane and wait for what it returns. If the wait is cancelled, a call that has begun goes on.

    Args:
        lane: in which one.
        function: what to call.
        noted: where to note that the call has begun, and has ended.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(answer: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)

    def call() -> None:
        answer, failure = None, None
        if future.cancelled():
            return
        if noted is not None:
            noted.begin()
        try:
            answer = function()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            # A StopIteration cannot be a future's.
            failure = RuntimeError(repr(error)) if isinstance(error, StopIteration) else error
        if noted is not None:
            noted.ended = True
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
            loop.call_soon_threadsafe(settle, answer, failure)

    lane.put(call)
    return await future


def flush_at_exit(lane: Lane) -> None:
    """Give a lane's last calls a moment when the program ends."""
    atexit.register(lambda: lane.flush(_EXIT_SECONDS))
