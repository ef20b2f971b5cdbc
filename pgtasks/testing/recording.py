"""A plugin that writes down how hooks are called, in this process or in those of a worker."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import os
import time
from collections.abc import Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from pgtasks import codec, hookspecs
from pgtasks.errors import PayloadError, PluginError, did_you_mean
from pgtasks.hookspecs import HOOKS, Kind, hookimpl
from pgtasks.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pgtasks.hookdata import Application

NAME: Final = "recorder"
"""Name of the plugin."""


@dataclass(frozen=True, slots=True)
class HookCall:
    """One call of a hook."""

    hook: str
    given: Mapping[str, Any]
    """Its arguments, as far as JSON can hold them: an object is its fields, a job has its `payload`, an exception is
    `Type: message`, a time is text in the form of ISO 8601, and of anything else there is the name."""
    role: str
    """What the process is for that called it; see `Role`."""
    pid: int
    """That process."""


class HookRecorder:
    """A plugin that implements the hooks it is told to, answers nothing, and writes every call to a file.

    It is for an App (`App(plugins=[recorder])`) as well as for workers (`run_worker(…, plugins=[recorder])`), and may
    be in several processes at once: calls are in the order in which they were made.

    Args:
        hooks: names of the hooks to be recorded.
        file: where calls are written to, a line of JSON each.

    Raises:
        PluginError: there is no hook of such a name.

    Examples:
        ```python
        recorder = HookRecorder(["job_failed"], tmp_path / "calls")
        run_worker("jobs", database=database, plugins=[recorder])
        assert recorder.calls()[0].given["end"]["job"]["task"] == "charge"
        ```
    """

    name = NAME

    def __init__(self, hooks: Iterable[str], file: Path) -> None:
        self.file = file.absolute()
        self.hooks = tuple(dict.fromkeys(hooks))
        self._role = ""
        for hook in self.hooks:
            if hook not in HOOKS:
                raise PluginError(f"{hook!r} is no hook, so that it cannot be recorded{did_you_mean(hook, HOOKS)}")
            setattr(self, hook, self._recording(hook))
        if "configure" not in self.hooks:
            self.configure = self._recording("configure", write=False)

    def calls(self, hook: str | None = None) -> list[HookCall]:
        """Return the calls so far, in order; of all hooks or of one."""
        if not self.file.exists():
            return []
        # The last line may be one that is being written.
        lines = self.file.read_bytes().split(b"\n")[:-1]
        found = [HookCall(**orjson.loads(line)) for line in lines]
        return [call for call in found if hook in (None, call.hook)]

    def wait_for(self, hook: str, count: int = 1, *, timeout: float = 30.0) -> list[HookCall]:
        """Return the calls of a hook as soon as there are so many.

        Raises:
            AssertionError: there are not within `timeout` seconds.
        """
        until = time.monotonic() + timeout
        while len(found := self.calls(hook)) < count:
            if time.monotonic() > until:
                raise AssertionError(
                    f"waited {timeout:g} s for {count} calls of {hook}, and there are {len(found)}; "
                    f"all calls: {[call.hook for call in self.calls()]}"
                )
            time.sleep(0.01)
        return found

    def clear(self) -> None:
        """Forget all calls."""
        self.file.unlink(missing_ok=True)

    def _recording(self, hook: str, *, write: bool = True) -> Callable[..., Any]:
        """Return an implementation of a hook, of which pluggy sees the arguments that the hook has."""

        @hookimpl
        @functools.wraps(getattr(hookspecs, hook))
        def record(**given: Any) -> Any:
            if hook == "configure":
                self._configured(given["app"])
            if write:
                self._write(hook, given)
            return nullcontext() if HOOKS[hook].kind is Kind.WRAP else None

        return record

    def _configured(self, app: Application) -> None:
        self._role = str(app.role)

    def _write(self, hook: str, given: Mapping[str, Any]) -> None:
        call = {"hook": hook, "given": _plain(given), "role": self._role, "pid": os.getpid()}
        # One write at the end of the file, so that processes do not mix their lines.
        with self.file.open("ab", buffering=0) as file:
            file.write(orjson.dumps(call) + b"\n")


def _plain(value: Any) -> Any:
    """Return what JSON can hold of a value."""
    match value:
        case enum.Enum():
            return _plain(value.value)
        case bool() | float() | None:
            return value
        case int():
            return value if abs(value) < 2**63 else str(value)
        case str():
            return value.encode(errors="replace").decode()
        case bytes():
            return value.decode(errors="replace")
        case dt.datetime():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case BaseException():
            return f"{type(value).__name__}: {value}"
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case Sequence() | Set():
            return [_plain(inner) for inner in value]
        case Job():
            return {**_fields(value, without="payload_json"), "payload": _payload(value)}
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return _fields(value)
    name = getattr(value, "name", None) or getattr(value, "__name__", None)
    return name if isinstance(name, str) else type(value).__name__


def _fields(value: Any, without: str = "") -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(value)]
    return {name: _plain(getattr(value, name)) for name in names if name != without}


def _payload(job: Job) -> Any:
    try:
        return _plain(codec.decode(job.payload_json))
    except PayloadError:
        return _plain(job.payload_json)
