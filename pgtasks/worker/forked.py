"""Children that a handler forks, and how to keep what they must not have out of them."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from typing import Final, NoReturn

forks = 0
"""How many forks this process is away from the one that imported this. Other than `os.getpid`, it costs no call."""


def _count() -> None:
    global forks
    forks += 1


os.register_at_fork(after_in_child=_count)


forking: Final = threading.Lock()
"""Held by a fork. Who holds it starts a program while no other thread forks.

`subprocess.Popen` waits for the end of a pipe that the program closes when it runs. A child that another thread forks
just then has that pipe too, and would keep the event loop waiting for as long as it lives.
"""
os.register_at_fork(before=forking.acquire, after_in_parent=forking.release, after_in_child=forking.release)


def end_forked_child() -> NoReturn:
    """End a child that was forked by a handler and came back from it, as its own program would have ended.

    It is a copy of the worker process: left alone it would commit the job's transaction on a connection that both have,
    tell of an end that is not its to tell, and then wait for work for ever.
    """
    error = sys.exc_info()[1]
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        code = 1
        with contextlib.suppress(BaseException):
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):
            stream.flush()
    os._exit(code)
