"""A cache that may fail, and that no request waits for twice."""

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

from ebbtide.core.ports import Cache

T = TypeVar("T")

_log = logging.getLogger(__name__)


class GuardedCache:
    """Asks the cache until it fails; then lets it be until it answers a probe again.

    The probe runs in a thread of its own: with the cache hanging, only requests
    that were in flight at that moment have waited for its timeout.
    """

    def __init__(self, cache: Cache, failed: Callable[[], None], pause: float = 3.0) -> None:
        """`failed` is called for each failure; `pause` is seconds between probes."""
        self._cache = cache
        self._failed = failed
        self._pause = pause
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.up = True

    def get(self, token: str, key: str) -> bytes | None:
        """What is cached; None also where the cache is away."""
        return self._try(lambda: self._cache.get(token, key)) if self.up else None

    def put(self, token: str, key: str, value: bytes) -> None:
        if self.up:
            self._try(lambda: self._cache.put(token, key, value))

    def close(self) -> None:
        self._closing.set()

    def _try(self, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except Exception as fault:  # noqa: BLE001 - whatever a cache raises, the request goes on
            self._failed()
            self._open(fault)
            return None

    def _open(self, fault: Exception) -> None:
        with self._lock:
            if not self.up:
                return
            self.up = False
        _log.warning("going on without the cache: %s", fault)
        threading.Thread(target=self._probe, name="cache-probe", daemon=True).start()

    def _probe(self) -> None:
        while not self._closing.wait(self._pause):
            try:
                self._cache.epoch()
            except Exception as fault:  # noqa: BLE001 - it is still away
                _log.debug("the cache is still away: %s", fault)
                continue
            self.up = True
            _log.warning("the cache is back")
            return
