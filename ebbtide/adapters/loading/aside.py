"""A release's answers aside from all that serves: what loads it is imported once one is asked."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ebbtide.core.ports import Layer
from ebbtide.core.release import Release

if TYPE_CHECKING:
    from ebbtide.adapters.loading.release import LoadedRelease

_KEPT = 3


class AsideScorer:
    """Answers as any release in this process, aside from all that serves.

    Holds the last three in memory. Safe for threads, one release at a time.
    """

    def __init__(self, layers: Mapping[str, Layer], handler: str) -> None:
        self._layers = layers
        self._handler = handler
        self._loaded: OrderedDict[str, LoadedRelease] = OrderedDict()
        self._lock = threading.Lock()

    def answers(self, release: Release, rows: Sequence[Any]) -> tuple[Any, ...]:
        """One prediction for each row, as a replica would give them."""
        with self._lock:
            return tuple(self._release(release).answer(list(rows)))

    def _release(self, release: Release) -> "LoadedRelease":
        from ebbtide.adapters.loading.release import load

        found = self._loaded.pop(release.id, None) or load(release, self._layers, self._handler)
        self._loaded[release.id] = found
        while len(self._loaded) > _KEPT:
            self._loaded.popitem(last=False)
        return found
