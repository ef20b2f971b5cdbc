"""Reading the settings from all their sources."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pgtasks.settings.model import Settings
from pgtasks.settings.sources import ExplicitSource, environment_layer, explicit_layer, file_layer

if TYPE_CHECKING:
    from collections.abc import Mapping


def load_settings(
    explicit: Mapping[str, object] | None = None,
    *,
    source: ExplicitSource = "App",
    options: Mapping[str, object] | None = None,
) -> Settings:
    """Read the settings: explicit values, over the environment, over a file, over defaults.

    The environment gives `PGTASKS_…` variables and, for the database alone, `DATABASE_URL` and then libpq's `PG…`
    variables. The file is the nearest `pgtasks.toml` or `pyproject.toml` with a `[tool.pgtasks]`, from the current
    directory upwards.

    Args:
        explicit: Values that win over all others. Each key that is present counts, also with the value `None`.
        source: Who gives the explicit values, so that messages can name them.
        options: What the command line says beside them, which wins.

    Raises:
        SettingsError: A name is unknown, a value cannot be used, or the file cannot be read. The message is one line
            that names the setting and its source.

    >>> load_settings({"poll_interval": 0}, source="command line")
    Traceback (most recent call last):
    ...
    pgtasks.errors.SettingsError: command line option --poll-interval: must be more than 0, not 0
    """
    known = Settings.names()
    return Settings.from_layers(
        explicit_layer(options or {}, "command line", known),
        explicit_layer(explicit or {}, source, known),
        environment_layer(os.environ, known),
        file_layer(Path.cwd(), known),
    )
