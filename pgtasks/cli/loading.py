"""Loading plugins for a command, and what it says of those that cannot be loaded."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.cli.output import warn
from pgtasks.plugins.discovery import missing
from pgtasks.plugins.manager import refusal

if TYPE_CHECKING:
    from pgtasks.app import App
    from pgtasks.errors import PluginError
    from pgtasks.settings import Settings


@dataclass(frozen=True, slots=True)
class Troubles:
    """What is wrong with plugins."""

    broken: list[PluginError] = field(default_factory=list)
    """Of each that cannot be used."""
    lacking: PluginError | None = None
    """Of required ones that are not there."""

    @property
    def all(self) -> list[PluginError]:
        """Everything, the worst at the end."""
        return self.broken if self.lacking is None else [*self.broken, self.lacking]

    def settle(self, settings: Settings) -> None:
        """Warn of broken plugins if the settings say so.

        Raises:
            PluginError: They do not, or a required plugin is not there.
        """
        if self.broken and settings.broken_plugins == "refuse":
            raise self.broken[0]
        for trouble in self.broken:
            warn(str(trouble))
        if self.lacking is not None:
            raise self.lacking


def load_plugins(app: App, settings: Settings) -> Troubles:
    """Load all plugins that can be loaded, for an app with these settings, and return what is wrong with the others.

    None of their hooks is called.

    Args:
        app: Has loaded none yet.
        settings: The command's.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # where a worker looks first, too
    app.configure(settings.with_overrides(broken_plugins="warn", required_plugins=()))
    log, nothing = logging.getLogger("pgtasks.plugins"), logging.NullHandler()
    log.addHandler(nothing)  # what it warns of is returned
    try:
        found = list(app.plugins)
    finally:
        log.removeHandler(nothing)
        app.configure(settings)
    broken = [refusal(info.name, info.problem) for info in found if info.problem is not None]
    return Troubles(broken, missing(settings.required_plugins, [info.name for info in found if info.problem is None]))
