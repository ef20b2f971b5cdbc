"""Settings: one frozen object, read from the command line, the environment and a file, in that order.

>>> settings = load_settings({"processes": 2}, source="command line")
>>> settings.processes
2
"""

from __future__ import annotations

from pgtasks.settings.conninfo import redact
from pgtasks.settings.load import load_settings
from pgtasks.settings.model import SettingLine, Settings
from pgtasks.settings.sources import ExplicitSource, environment_name

__all__ = [
    "ExplicitSource",
    "SettingLine",
    "Settings",
    "environment_name",
    "load_settings",
    "redact",
]
