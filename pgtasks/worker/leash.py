"""What ends programs when the process that runs them is gone, however it went.

A process that is killed can end nothing any more. So it has a shell beside it, started with its first program, which
it tells of each process group that begins and ends, through a pipe. The end of the pipe is the end of the process: the
shell then kills the groups that are left, and ends. That needs nothing of the system but pipes, reaches what programs
have started in their turn, and is not tied to a thread as PR_SET_PDEATHSIG is, which Linux alone has, and which would
take Python code between fork and exec.
"""

from __future__ import annotations

import os
import subprocess
from typing import Final

from pgtasks.logs import get_logger
from pgtasks.worker.forked import forking

log = get_logger("pgtasks.worker")

# It hears of its own end by the pipe alone, and not by signals that are meant for all processes of a service. It does
# not say whose it is in its arguments, so that whoever kills all processes of ours by that does not kill it too.
_SCRIPT: Final = """
trap '' HUP INT QUIT TERM
groups=' '
while read -r what group; do
    case $what in
        +) groups="$groups$group " ;;
        -) groups="${groups%% $group *} ${groups#* $group }" ;;
    esac
done
for group in $groups; do
    kill -s KILL -- "-$group"
done
"""


class Leash:
    """Knows the process groups that are not to outlive this process."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._pipe: int | None = None
        self._shell: subprocess.Popen[bytes] | None = None
        self._owner = 0
        """The process that has started it."""
        # A child that a handler forks would keep the pipe open.
        os.register_at_fork(after_in_child=self._be_another)

    def be_ready(self) -> None:
        """Start the shell, unless there is one: before the first program, which then is held as soon as it runs."""
        if self._pipe is None:
            self._start()

    def hold(self, group: int) -> None:
        """Have a group killed if this process ends before it is let go."""
        self._groups.add(group)
        if self._pipe is None or not self._tell(f"+ {group}"):
            self._start()

    def let_go(self, group: int) -> None:
        """Take it that a group is gone."""
        self._groups.discard(group)
        if self._pipe is not None and not self._tell(f"- {group}"):
            self._start()

    def _start(self) -> None:
        """Start a shell; instead of one that somebody has killed or stopped, if there is one."""
        self._close()
        theirs, ours = os.pipe()
        try:
            os.set_blocking(ours, False)
            with forking:
                self._shell = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT],
                    stdin=theirs,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env={},
                    start_new_session=True,
                )
        except OSError as error:
            os.close(ours)
            log.error(  # noqa: TRY400 - nothing to learn from our own stack
                "programs_unguarded",
                error=str(error),
                message="programs go on should this process be killed",
            )
            return
        finally:
            os.close(theirs)
        self._pipe, self._owner = ours, os.getpid()
        for group in self._groups:
            self._tell(f"+ {group}")

    def _tell(self, line: str) -> bool:
        assert self._pipe is not None
        try:
            return os.write(self._pipe, f"{line}\n".encode()) > 0
        except OSError:  # it is gone, or the pipe is full
            return False

    def _close(self) -> None:
        if self._shell is not None and self._owner == os.getpid():
            self._shell.kill()  # before the pipe is closed, or it would kill what still runs
            self._shell.wait()
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _be_another(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
        self._pipe = None
        self._groups.clear()


leash = Leash()
"""That of this process."""
