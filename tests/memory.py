"""Where a run of the tests lies: in memory where there is enough, so that nothing waits for a disk.

A process that is killed loses nothing there that it would keep on a disk: only a
machine that loses its power does, and no test takes that away.
"""

import os
import shutil
from pathlib import Path

_MEMORY = Path("/dev/shm")
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_WANTED = 6 * 2**30
"""Bytes: a run leaves about two gigabytes lying at a time, and its processes need as much."""


def folder_in_memory() -> Path | None:
    """None where there is no such folder, or too little memory."""
    if not os.access(_MEMORY, os.W_OK):
        return None
    free = min(shutil.disk_usage(_MEMORY).free, _available(), _allowed())
    return _MEMORY if free >= _WANTED else None


def _available() -> int:
    """Bytes that processes can still have, by Linux."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.removesuffix("kB")) * 1024
    return 0


def _allowed() -> int:
    """Bytes that this container may have in all."""
    told = _LIMIT.read_text().strip() if _LIMIT.exists() else "max"
    return _WANTED if told == "max" else int(told)
