"""What the command line says on stderr: errors, warnings and notes, each on one line that begins with `pgtasks:`."""

from __future__ import annotations

import contextlib
import os
import platform
import traceback

import click

from pgtasks.errors import did_you_mean

_PLUGIN = "_pgtasks_plugin"
"""The attribute of an exception that says whose command has raised it."""


def complain(message: str) -> None:
    """Write an error: `pgtasks: error: …`, in red on a terminal."""
    _write("pgtasks: error:", "red", message)


def warn(message: str) -> None:
    """Write something that the user should know of, after which the command goes on."""
    _write("pgtasks: warning:", "yellow", message)


def note(message: str) -> None:
    """Write what the command does by itself."""
    _write("pgtasks:", None, message)


def explain_usage(error: click.ClickException) -> str:
    """Return what is wrong with the command line, in one line that names the nearest right spelling and the help."""
    message = " ".join(error.format_message().split()).rstrip(".")
    message = message.replace("is not a valid integer range", "is not a whole number")
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.NoSuchOption) and ctx is not None:
        known = [option for param in ctx.command.get_params(ctx) for option in (*param.opts, *param.secondary_opts)]
        message = f"there is no option {error.option_name!r}{did_you_mean(error.option_name, known)}"
    elif message:
        message = message[0].lower() + message[1:]
    if ctx is None:
        return message
    return f"{message}{'' if message.endswith('?') else '.'} See '{ctx.command_path} --help'."


def blame(error: Exception, plugin: str) -> None:
    """Note that an exception comes from a plugin's command, and not from pgtasks."""
    setattr(error, _PLUGIN, plugin)


def explain_bug(error: BaseException) -> None:
    """Write the traceback of an exception that nothing expected, and what to do with it."""
    from pgtasks import __version__  # noqa: PLC0415 - a command that ends well does not need it

    with contextlib.suppress(OSError):
        traceback.print_exception(error)
    if plugin := getattr(error, _PLUGIN, None):
        complain(f"this is a bug in plugin {plugin!r}; please report it, with the lines above, to whom it is from")
        return
    complain(
        f"this is a bug in pgtasks; please report it with the lines above, what you ran and these versions: "
        f"pgtasks {__version__}, Python {platform.python_version()}, {platform.system()} {platform.release()}"
    )


def _write(label: str, color: str | None, message: str) -> None:
    plain = color is None or bool(os.environ.get("NO_COLOR"))
    text = f"{label if plain else click.style(label, fg=color, bold=True)} {message}"
    with contextlib.suppress(OSError):  # nobody reads it any more: the exit code still tells
        click.echo(text, err=True)
