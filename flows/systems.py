"""Where the flows find their systems."""

import os
from pathlib import Path

from ebbtide.bootstrap import SYSTEMS, open_world
from ebbtide.core.ports import World


def open_named(system: str, systems: str = "") -> World:
    """The system of that name; `systems` empty: below EBBTIDE_SYSTEMS, else configs/systems."""
    return open_world(system.strip(), folder_of(systems))


def names_in(systems: str = "") -> list[str]:
    """The names of all systems, in their order."""
    return sorted(file.stem for file in folder_of(systems).glob("*.yaml"))


def folder_of(systems: str = "") -> Path:
    return Path(systems.strip() or os.environ.get("EBBTIDE_SYSTEMS", "") or SYSTEMS)
