"""What takes long to make is made once, whatever the number of pytest's workers."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def shared_by_workers(factory: pytest.TempPathFactory) -> Path:
    """The temporary folder of the whole run, not of this worker."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(shared: Path, make: Callable[[Path], object]) -> Path:
    """The folder that whichever process comes first makes in one that others share.

    It is there to be copied: nothing may change it.
    """
    done, folder = shared / "done", shared / "made"
    shared.mkdir(exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that died over it
            make(folder)
            done.touch()
    return folder
