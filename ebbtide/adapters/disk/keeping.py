"""Contents that a layer keeps below a folder of its own, each named by its digest."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from ebbtide.adapters.disk.files import locked
from ebbtide.core.crashpoints import reach
from ebbtide.core.release import Pin

_DIGEST = re.compile(r"[0-9a-f]{64}")
_GONE = ".given-up"


class KeptByDigest:
    """The part of `ebbtide.core.retention.Keeping` that is the same for all such layers."""

    _store: Path

    def kept_at(self, pin: Pin) -> Path | None:
        """Below the store; None for what was shown without ebbtide, which stays where it is."""
        if "target" in pin.at or not _DIGEST.fullmatch(pin.digest):
            return None
        return self._store / pin.digest

    def kept_faults(self, pin: Pin) -> list[str]:
        """That the kept folder is missing."""
        place = self.kept_at(pin)
        if place is None or place.is_dir():
            return []
        return [f"the kept copy {place} is missing: `ebbtide gc` takes it again where it can"]

    def drop(self, pin: Pin, needed: Callable[[], bool]) -> bool:
        """See `Keeping.drop`."""
        place = self.kept_at(pin)
        return place is not None and remove(place, needed)


def remove(place: Path, needed: Callable[[], bool]) -> bool:
    """Delete a kept folder; whether it did. It is there whole or not at all, whoever is killed.

    It loses its name first, and is deleted only where nobody needs it then: who
    begins to need it and finds it without its name keeps it again.
    """
    aside = place.with_name(f".{place.name}{_GONE}")
    if not (place.is_dir() or aside.is_dir()):
        return False
    with locked(place.parent):
        if not aside.exists():
            if needed():
                return False
            place.rename(aside)
            _sync(place.parent)
            reach("keeping.remove/nameless")
        if place.exists():
            shutil.rmtree(aside)  # kept again since: what has no name is one too many
            return False
        if needed():
            aside.rename(place)
            _sync(place.parent)
            return False
    shutil.rmtree(aside)
    _sync(place.parent)
    return True


def size(place: Path) -> int:
    """Bytes that go with a kept folder: files that have another name elsewhere go on."""
    found = 0
    for folder, _, files in os.walk(place):
        for name in files:
            known = os.lstat(Path(folder) / name)
            found += known.st_size if known.st_nlink == 1 else 0
    return found


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
