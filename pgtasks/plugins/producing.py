"""What plugins do to jobs that are about to be added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from pgtasks import codec as json_codec
from pgtasks.errors import PluginError
from pgtasks.job import JobSpec

if TYPE_CHECKING:
    from pgtasks.hookdata import PayloadCodec
    from pgtasks.plugins.dispatch import Dispatch


class Outgoing:
    """Sends specs through `before_defer` and their payloads through the codec.

    Args:
        hooks: the hooks.
        codec: what payloads are stored with, if any plugin has one.
    """

    def __init__(self, hooks: Dispatch, codec: PayloadCodec | None) -> None:
        self._hooks = hooks
        self._codec = codec
        self._changed = hooks.has("before_defer")
        self.after = hooks.observer("after_defer")
        """Tells of jobs that were added; None if nobody listens."""
        self.active = self._changed or codec is not None
        """Whether anything is done to specs."""

    def spec(self, spec: JobSpec) -> JobSpec:
        """Return what is to be added for one spec."""
        return self.specs([spec])[0] if self.active else spec

    def jobs(self, jobs: list[Any], template: JobSpec | None) -> list[Any]:
        """Return what is to be added for what was given: specs, or payloads of jobs that are otherwise like a template.

        What is neither is left to whoever reports that.
        """
        if not (self.active and jobs):
            return jobs
        if template is not None:
            jobs = [job if isinstance(job, JobSpec) else replace(template, payload=job) for job in jobs]
        return self.specs(jobs) if all(isinstance(job, JobSpec) for job in jobs) else jobs

    def specs(self, specs: list[JobSpec]) -> list[JobSpec]:
        """Return what is to be added for several."""
        if self._changed:
            specs = self._hooks.change("before_defer", specs, read_specs, argument="specs")
        if self._codec is not None:
            specs = [replace(spec, payload=self._encoded(self._codec, spec)) for spec in specs]
        return specs

    @staticmethod
    def _encoded(codec: PayloadCodec, spec: JobSpec) -> orjson.Fragment:
        payload = {} if spec.payload is None else spec.payload
        text = codec.encode(json_codec.encode(payload, f"payload of task {spec.task!r}"))
        try:
            orjson.loads(text)
        except (TypeError, ValueError) as error:
            raise PluginError(
                f"the payload codec has made something of a payload of task {spec.task!r} that is not JSON: {error}"
            ) from None
        return orjson.Fragment(text)


def read_specs(answer: Any, before: list[JobSpec]) -> list[JobSpec]:
    """Return a plugin's answer to `before_defer`, or raise."""
    if not isinstance(answer, Sequence) or isinstance(answer, str):
        raise TypeError("it must be a list of JobSpec")
    for spec in answer:
        if not isinstance(spec, JobSpec):
            raise TypeError(f"it must be a list of JobSpec, and holds a {type(spec).__name__}")
    if len(answer) != len(before):
        raise ValueError(f"it must hold as many specs as were given, {len(before)}, and has {len(answer)}")
    return list(answer)
