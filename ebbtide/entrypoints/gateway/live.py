"""What a request is answered from."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ebbtide.entrypoints.gateway.warm import Warm


@dataclass(frozen=True, slots=True)
class MadeAhead:
    """A response's body, and until when it may be given (monotonic seconds)."""

    body: bytes
    until: float


@dataclass(frozen=True, slots=True)
class Live:
    """One release in one epoch: read once, and nothing else beside it."""

    warm: Warm
    epoch: int
    token: str
    ahead: Mapping[str, MadeAhead] = field(default_factory=dict)
    """What this very release answered before the epoch began, by cache key."""

    @property
    def release(self) -> str:
        return self.warm.loaded.release_id

    def made_ahead(self, key: str) -> bytes | None:
        found = self.ahead.get(key)
        return found.body if found and time.monotonic() < found.until else None
