"""One import of the application, and what is needed to make worker processes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pgtasks.worker.slots import SlotTable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Coroutine

    from pgtasks.worker.zygotes import Loaded, ZygoteClient

_SPARE_ROWS = 32
"""Rows of the slot table beyond two for each process: while one is replaced there are two, and there may come more."""


@dataclass(eq=False)
class Generation:
    """The application as one zygote has imported it. A reload makes another."""

    zygote: ZygoteClient
    """Where its processes come from."""
    table: SlotTable
    """A row for each process that may live at a time."""
    settings: str
    """The settings of its processes, as JSON, with the password."""
    grace_of: Callable[[str | None], float]
    """Gives the seconds that jobs of a task have to stop when they are asked to."""
    proved: bool = False
    """Whether a process of it has been ready."""

    @classmethod
    def of(cls, loaded: Loaded, zygote: ZygoteClient, conninfo: str, processes: int) -> Generation:
        """Return what processes are made of, with room for so many."""
        settings = loaded.settings
        return cls(
            zygote,
            SlotTable.create(processes * 2 + _SPARE_ROWS, settings.concurrency),
            settings.with_overrides(database_url=conninfo).to_json(),
            loaded.grace_of,
        )

    @property
    def most_processes(self) -> int:
        """How many processes may be wanted of it."""
        return self.table.processes // 2

    async def spawn(self, index: int, worker_id: str, control: socket.socket) -> int:
        """Have a worker process forked; returns its pid.

        Raises:
            SpawnRefusedError: the system gives no further process now.
            PgtasksError: there is never to be one.
        """
        return await self.zygote.spawn(
            index=index, worker_id=worker_id, settings=self.settings, control=control, slots=self.table
        )


class Generations:
    """The generations that there are: the current one, and older ones as long as they have processes.

    Args:
        first: the current one.
        do: runs a coroutine beside the rest.
    """

    def __init__(self, first: Generation, do: Callable[[Coroutine[Any, Any, None], str], None]) -> None:
        self.current = first
        self.previous: Generation | None = None
        """What would be the current one again, should the current one turn out not to work."""
        self._all = [first]
        self._do = do

    def __contains__(self, generation: Generation) -> bool:
        return generation in self._all

    def go_on_to(self, generation: Generation) -> None:
        """Make another generation the current one."""
        self._all.append(generation)
        self.previous, self.current = self.current, generation

    def fall_back(self, previous: Generation) -> Generation:
        """Make an older generation the current one again; returns the one that is given up."""
        abandoned, self.current, self.previous = self.current, previous, None
        return abandoned

    def close_unused(self, used: Collection[Generation]) -> None:
        """End the zygotes of generations that have no process any more, and are not to have one."""
        kept = {*used, self.current, self.previous}
        for generation in [generation for generation in self._all if generation not in kept]:
            self._all.remove(generation)
            generation.zygote.detach()
            self._do(asyncio.to_thread(generation.zygote.close), "close a zygote")
            generation.table.close()

    def close(self) -> None:
        """End all zygotes."""
        for generation in self._all:
            generation.zygote.detach()
            generation.zygote.close()
