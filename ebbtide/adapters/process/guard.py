"""Runs one command, and ends all that it started once it ends or its owner has died.

A program of its own, with nothing but the standard library, because its owner
may be killed by a signal that no handler sees. The owner holds the other end of
standard input: its end is the owner's end. Exits as the command does; with
128 + n where a signal n ended that.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LOOK = 0.05
"""Seconds between looks at the command and the owner."""
_PATIENCE = 30.0
"""Seconds for killed processes to be gone: one may hang in a system call."""
_PR_SET_CHILD_SUBREAPER = 36


def main(owner: int, command: list[str]) -> int:
    """Run to the end of the command or of the owner."""
    _adopt_orphans()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        while child.poll() is None and _is_alive(owner):
            pass
        code = child.poll()
    finally:
        _end_all()
    if code is None:
        return 128 + signal.SIGKILL
    return code if code >= 0 else 128 - code


def _is_alive(owner: int) -> bool:
    """The second look is for an owner whose forks hold its end of the pipe open."""
    ended, _, _ = select.select([0], [], [], _LOOK)
    return not ended and os.getppid() == owner


def _adopt_orphans() -> None:
    """A process that leaves its parent and its group becomes a child of this one."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_all() -> None:
    """Kill until nobody is left: who is killed may have forked meanwhile."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        for pid in _descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_LOOK / 5)


def _descendants(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in _processes():
        children.setdefault(parent, []).append(pid)
    waiting = [root]
    while waiting:
        found = children.get(waiting.pop(), [])
        waiting += found
        yield from found


def _processes() -> Iterator[tuple[int, int]]:
    """Every process with its parent; where there is no /proc, as `ps` tells."""
    if not Path("/proc/self/stat").exists():
        said = subprocess.run(["ps", "-axo", "pid=,ppid="], capture_output=True, check=False)
        for line in said.stdout.splitlines():
            pid, parent = line.split()
            yield int(pid), int(parent)
        return
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                about = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                yield int(folder.name), int(about[1])


if __name__ == "__main__":
    # The group is this process's own: whatever a kill has missed goes with it.
    ended_with = main(int(sys.argv[1]), sys.argv[2:])
    os._exit(ended_with)
