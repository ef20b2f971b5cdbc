"""Executables as handlers: a job is one run of a program, beside the other jobs in the process's event loop.

The program is the first of a process group of its own, and all of the group is gone when the job has ended:

    running    until the program has exited and nothing holds its output open any more
    stopping   the job is asked to stop: the group gets TERM
    killing    it has not listened: the group gets KILL

What programs are told is what Graphile Worker tells them, to the letter.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import math
import os
import signal
import subprocess
from pathlib import Path
from types import NoneType
from typing import IO, TYPE_CHECKING, Any, Final

from pgtasks.context import JobContext  # noqa: TC001 - part of a handler's signature, which is looked at
from pgtasks.errors import ExecutableError, JobAbortedError
from pgtasks.handlers import STORED
from pgtasks.worker.exits import exit_code_of, wait_for_exit
from pgtasks.worker.forked import forking
from pgtasks.worker.leash import leash
from pgtasks.worker.output import ProgramOutput
from pgtasks.worker.protocol import describe_status

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from pgtasks.job import Job

_SHELL: Final = "/bin/sh"
_PART_OF_GRACE: Final = 0.8
"""After which part of the time that a job has to stop its program is killed, so that the process need not be."""
_ABORT_SECONDS: Final = 0.5
"""How long a program has to stop where its worker does not wait for it. A process that aborts waits for a second."""
_LAST_SECONDS: Final = 0.2
"""How long the output is read on after the group was killed. A process that has left it may hold it open for ever."""


def executable_handler(path: Path, name: str) -> Callable[[JobContext], Coroutine[Any, Any, None]]:
    """Return a handler that runs the file at `path`, as the task `name`."""

    async def run(ctx: JobContext) -> None:
        grace = ctx.app.settings.job_grace
        program = _Program(path, name, ctx.job)
        running = asyncio.get_running_loop().create_task(program.run())
        while True:
            try:
                await asyncio.shield(running)
                break
            except asyncio.CancelledError:
                if running.done():
                    raise
                # Not for its own sake, but because the worker does not wait for it, which it may also say later.
                hurried = type(ctx.abort.error) in (JobAbortedError, NoneType) or program.asked_to_stop
                within = math.inf if grace is None else grace * _PART_OF_GRACE
                program.ask_to_stop(_ABORT_SECONDS if hurried else within)
        if program.asked_to_stop:
            # Many programs end with code 0 when they get TERM, whatever is left to be done.
            raise asyncio.CancelledError
        if program.code != 0:
            raise ExecutableError("\n\n".join((describe_status(program.code), *program.last_words)))

    run.__name__ = run.__qualname__ = name
    vars(run)[STORED] = True  # a program is given the payload as it is stored, whether Python can hold it or not
    return run


class _Program:
    """One run of an executable."""

    def __init__(self, path: Path, name: str, job: Job) -> None:
        self._path = str(path)
        self._environment = _environment(name, job)
        self._input = _input(job)
        self._loop = asyncio.get_running_loop()
        self._group: int | None = None
        self._signal: signal.Signals | None = None
        """The last signal that its group has got, or is to get."""
        self._killing: asyncio.TimerHandle | None = None
        self._output = ProgramOutput("stdout")
        self._errors = ProgramOutput("stderr")
        self.code = 0
        """Its exit code or, negative, the signal that killed it."""

    @property
    def asked_to_stop(self) -> bool:
        """Whether it was asked to stop before it had ended."""
        return self._signal is not None

    @property
    def last_words(self) -> list[str]:
        """The last lines of its stderr, as one text; none if there are none."""
        return [text] if (text := self._errors.tail) else []

    def ask_to_stop(self, within: float) -> None:
        """Send it TERM, and if it has not ended within so many seconds, KILL. Once more: sooner."""
        if self._killing is not None:
            self._killing.cancel()
        if self._signal is None:
            self._send(signal.SIGTERM)
        if within < math.inf:
            self._killing = self._loop.call_later(within, self._kill)

    async def run(self) -> None:
        """Run it, and leave nothing of it behind.

        Raises:
            ExecutableError: it cannot be started, or its exit code is not to be had.
        """
        leash.be_ready()
        with contextlib.ExitStack() as files:
            with forking:
                (stdin, feed), (output, stdout), (errors, stderr) = [_pipe(files) for _ in range(3)]
                try:
                    process = self._start(stdin, stdout, stderr)
                except OSError as error:
                    raise self._not_started(error) from None
                for file in (stdin, stdout, stderr):
                    file.close()
            self._group = process.pid
            leash.hold(self._group)
            feeding = _Feeding(feed, self._input)
            try:
                if self._signal is not None:
                    self._send(self._signal)
                await self._loop.connect_read_pipe(lambda: self._output, output)
                await self._loop.connect_read_pipe(lambda: self._errors, errors)
                feeding.write()
                await wait_for_exit(process)
                await self._output.closed.wait()
                await self._errors.closed.wait()
            finally:
                if self._killing is not None:
                    self._killing.cancel()
                feeding.end()
                self._close_output()
                self._signal_group(signal.SIGKILL)
                self.code = exit_code_of(process)
                leash.let_go(self._group)
                self._group = None

    def _start(self, stdin: IO[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
        # Not asyncio's, which tells of a process only some turns of the loop after it has begun to run.
        def start(*command: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command, stdin=stdin, stdout=stdout, stderr=stderr, env=self._environment, process_group=0
            )

        try:
            return start(self._path)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
        return start(_SHELL, self._path)  # a script without `#!`, as `execvp` runs it

    def _not_started(self, error: OSError) -> ExecutableError:
        # The system names the script, also where it is the script's interpreter that is not there.
        lost = isinstance(error, FileNotFoundError) and Path(self._path).exists()
        hint = "; the file is there, and what its first line names is not" if lost else ""
        return ExecutableError(f"cannot be started: {error}{hint}")

    def _send(self, number: signal.Signals) -> None:
        """Send a signal to the group, or when there is one."""
        self._signal = number
        if self._group is not None:
            self._signal_group(number)

    def _signal_group(self, number: signal.Signals) -> None:
        assert self._group is not None
        # macOS refuses it for a group of which only the dead are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, number)

    def _kill(self) -> None:
        self._send(signal.SIGKILL)
        self._killing = self._loop.call_later(_LAST_SECONDS, self._close_output)

    def _close_output(self) -> None:
        self._output.close()
        self._errors.close()


class _Feeding:
    """Writes a program's input, as far as it reads it."""

    def __init__(self, file: IO[bytes], data: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        self._file = file
        self._left = memoryview(data)
        os.set_blocking(file.fileno(), False)

    def write(self) -> None:
        """Write what there is room for, and the rest when there is again."""
        try:
            self._left = self._left[os.write(self._file.fileno(), self._left) :]
        except BlockingIOError:
            pass
        except OSError:  # it reads no more, which is its own affair
            self._left = self._left[:0]
        if self._left:
            self._loop.add_writer(self._file.fileno(), self.write)
        else:
            self.end()

    def end(self) -> None:
        """Write no more."""
        if not self._file.closed:
            self._loop.remove_writer(self._file.fileno())
            self._file.close()


def _pipe(files: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    ends = os.pipe()
    read, write = open(ends[0], "rb", buffering=0), open(ends[1], "wb", buffering=0)  # noqa: PTH123, SIM115
    for end in (read, write):
        _ends.add(end)
        files.callback(_ends.discard, end)
        files.enter_context(end)
    return read, write


_ends: set[IO[bytes]] = set()
"""All ends of pipes to programs. A child that a handler forks would keep a program waiting for the end of its input for
as long as it lives."""


def _close_ends() -> None:
    for end in _ends:
        end.close()


os.register_at_fork(after_in_child=_close_ends)


def _environment(name: str, job: Job) -> dict[bytes, bytes]:
    """Return the worker's own environment, and what a program is told of its job."""
    run_at = job.run_at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {
        "PAYLOAD_FORMAT": "json",
        "TASK_IDENTIFIER": name,
        "JOB_ID": str(job.id),
        "JOB_KEY": job.key,
        "JOB_ATTEMPTS": str(job.attempts),
        "JOB_MAX_ATTEMPTS": str(job.max_attempts),
        "JOB_PRIORITY": str(job.priority),
        "JOB_RUN_AT": run_at,
    }
    environment = dict(os.environb)
    for key, value in told.items():
        variable = f"GRAPHILE_WORKER_{key}".encode()
        environment.pop(variable, None)  # this worker may be run by a program that runs as a job
        if value is not None:
            environment[variable] = value.encode()
    return environment


def _input(job: Job) -> bytes:
    """Return what a program reads: an object that has the payload, just as it is stored."""
    stored = job.payload_json
    return b'{"payload":' + (stored if isinstance(stored, bytes) else stored.encode("utf-8", "surrogatepass")) + b"}"
