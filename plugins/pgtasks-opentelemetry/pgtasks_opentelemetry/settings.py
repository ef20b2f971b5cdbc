"""What can be set, in `[tool.pgtasks.plugin.opentelemetry]` or as `PGTASKS_PLUGIN_OPENTELEMETRY__NAME`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from pgtasks import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable


class OpenTelemetrySettings(BaseModel):
    """Settings of the plugin."""

    relation: Literal["link", "parent"] = "link"
    """How a run's span belongs to the one of the add: it links to it from a trace of its own, or is its child."""
    carry: tuple[str, ...] = ("traceparent", "tracestate")
    """Which fields of the configured propagators are kept with a job."""
    exception_text: bool = True
    """Whether spans have the text of exceptions, which may quote what a handler was given; if not, only the type and
    the places in the code."""
    setup: str | None = Field(default=None, pattern=r"^[\w.]+:[\w.]+$")
    """`module:function` that configures the SDK, called without arguments in each worker process."""
    flush_timeout: float = Field(default=4.0, ge=0, le=5)
    """How many seconds the end of a worker process waits for what is to be exported."""


def load_setup(place: str) -> Callable[[], object]:
    """Return the function that the setting `setup` names.

    Raises:
        SettingsError: there is none.
    """
    module, _, path = place.partition(":")
    try:
        found = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(
            f"setting 'plugin.opentelemetry.setup': {place!r} cannot be loaded: {error}; name a function of a module "
            f"that can be imported, as in 'shop.telemetry:configure'"
        ) from error
    if not callable(found):
        raise SettingsError(f"setting 'plugin.opentelemetry.setup': {place!r} is no function")
    return found
