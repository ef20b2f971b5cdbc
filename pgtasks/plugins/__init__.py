"""Plugins: everything that one needs to be written, and what an App does with those that it has.

    from pgtasks.plugins import hookimpl

    class Shop:
        @hookimpl
        def job_failed(self, end):
            ...

`pgtasks.hookspecs` holds the contract: all hooks, each with its kind and an example.
"""

from __future__ import annotations

from pgtasks.cron.entry import CronEntry
from pgtasks.cron.schedule import Schedule
from pgtasks.cron.ticks import CronTick
from pgtasks.errors import PluginError
from pgtasks.flow import Cancel, Decision, Fail, Retry, Snooze
from pgtasks.hookdata import (
    Application,
    Check,
    CheckResult,
    ClaimPlan,
    ForbiddenFlags,
    HostInfo,
    JobEnd,
    LostJob,
    Metric,
    Migration,
    PayloadCodec,
    ProcessInfo,
    ProcessState,
    Role,
)
from pgtasks.hookspecs import HOOKS, Hook, Kind, hookimpl
from pgtasks.plugins.dispatch import Dispatch
from pgtasks.plugins.loop_dispatch import LoopDispatch
from pgtasks.plugins.manager import PluginInfo, Plugins
from pgtasks.plugins.own_settings import describe_plugin_settings, read_plugin_settings

__all__ = [
    "HOOKS",
    "Application",
    "Cancel",
    "Check",
    "CheckResult",
    "ClaimPlan",
    "CronEntry",
    "CronTick",
    "Decision",
    "Dispatch",
    "Fail",
    "ForbiddenFlags",
    "Hook",
    "HostInfo",
    "JobEnd",
    "Kind",
    "LoopDispatch",
    "LostJob",
    "Metric",
    "Migration",
    "PayloadCodec",
    "PluginError",
    "PluginInfo",
    "Plugins",
    "ProcessInfo",
    "ProcessState",
    "Retry",
    "Role",
    "Schedule",
    "Snooze",
    "describe_plugin_settings",
    "hookimpl",
    "read_plugin_settings",
]
