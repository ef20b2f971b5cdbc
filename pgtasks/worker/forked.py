"""Children that a handler forks."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import NoReturn

forks = 0
"""How many forks this process is away from the one that imported this. Other than `os.getpid`, it costs no call."""


def _count() -> None:
    global forks
    forks += 1


os.register_at_fork(after_in_child=_count)


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
