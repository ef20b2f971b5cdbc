"""`pgtasks health`: ask a worker how it is."""

from __future__ import annotations

import http.client
import json

import click

from pgtasks.cli.options import settings_from
from pgtasks.errors import SettingsError, UnhealthyError


@click.command
@click.option("--live", is_flag=True, help="Ask only whether it lives, and not whether it takes jobs.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    metavar="SECONDS",
    help="How long to wait for the answer; 5 by default.",
)
@click.option("--health-port", metavar="N", help="The port at which the worker answers.")
@click.option("--health-address", metavar="HOST", help="The address; 127.0.0.1 by default.")
@click.pass_context
def health(ctx: click.Context, /, *, live: bool, timeout: float, **_settings: object) -> None:
    """Ask the worker on this host whether it takes jobs: code 0 if it does, 1 if not.

    The worker has to be started with a health port.
    """
    settings = settings_from(ctx)
    if not settings.health_port:
        raise SettingsError(
            "no health port is set: give the worker and this command the same --health-port, PGTASKS_HEALTH_PORT or "
            "health_port in the settings file"
        )
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(  # noqa: S104 - what a worker listens on cannot be asked
        settings.health_address, settings.health_address
    )
    problems = _ask(address, settings.health_port, "/live" if live else "/ready", timeout)
    if problems:
        raise UnhealthyError("; ".join(problems))
    click.echo("live" if live else "ready")


def _ask(address: str, port: int, path: str, timeout: float) -> list[str]:
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = json.loads(connection.getresponse().read())
        return [str(problem) for problem in answer["problems"]]
    except (OSError, http.client.HTTPException) as error:
        raise UnhealthyError(f"no worker answers at {address}, port {port}: {error}") from None
    except (ValueError, LookupError, TypeError):
        raise UnhealthyError(f"what answers at {address}, port {port} is no worker of pgtasks") from None
    finally:
        connection.close()
