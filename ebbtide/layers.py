"""What an adapter for a layer of your own needs, and nothing else of ebbtide.

An adapter is a class with the methods of `Layer`. It is made with its things,
as the system file names them, and its `Site`; where it has an attribute
`options`, a subclass of `Options`, its things are validated by that first.
Register it under the entry-point group `ebbtide.layers`, and prove it with
`ebbtide.testing.layer_contract`.
"""

from collections.abc import Collection

from ebbtide.adapters.disk.kept import KeptFiles
from ebbtide.adapters.handover import hand_over
from ebbtide.adapters.system.own import Site
from ebbtide.adapters.system.things import Strict as Options
from ebbtide.core.errors import (
    BadConfiguration,
    Conflict,
    FloatingReference,
    NotRestorable,
    Unknown,
    Unreachable,
)
from ebbtide.core.ports import Layer
from ebbtide.core.release import Pin

__all__ = [
    "BadConfiguration",
    "Conflict",
    "FloatingReference",
    "KeptFiles",
    "Layer",
    "NotRestorable",
    "Options",
    "Pin",
    "Seen",
    "Site",
    "Unknown",
    "Unreachable",
    "hand_over",
]

Seen = Collection[Pin | None]
"""What a move may start from: what was seen there before. None: nothing was there."""
