"""Looks at a release's pins for whoever plans to go back to it.

This process has the clients of every store loaded; a command line that is
started in an emergency has not, and loading them costs it seconds.
"""

import asyncio
import logging

import orjson

from ebbtide.core.errors import EbbtideError, Refused, Unknown
from ebbtide.core.ports import World
from ebbtide.core.restorable import look
from ebbtide.entrypoints.gateway.protocol import Refusal
from ebbtide.entrypoints.gateway.workers import Workers

_log = logging.getLogger(__name__)

_AT_ONCE = 2
"""Looks at work or waiting; one more is refused: each reads every byte of a release."""
_WITHIN = 60.0


class Verifying:
    """Threads of its own, so that hashing files keeps no request for a prediction waiting."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._workers = Workers("verify", 1)

    async def verify(self, release: str) -> bytes:
        """What is wrong with each pin, as JSON. Raises a `Refusal`."""
        if self._workers.in_flight >= _AT_ONCE:
            raise Refusal(503, "TEMPORARILY_UNAVAILABLE", "other releases are being looked at")
        future = self._workers.submit(lambda: self._look(release))
        self._workers.in_flight += 1
        try:
            async with asyncio.timeout(_WITHIN):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Refusal(504, "DEADLINE_EXCEEDED", f"not within {_WITHIN:.0f} s") from None
        finally:
            self._workers.in_flight -= 1

    def close(self) -> None:
        self._workers.close()

    def _look(self, release_id: str) -> bytes:
        """The journal has the release: it need not be loaded here."""
        try:
            release = self._world.journal.release(release_id, self._world.system)
            found = look(self._world.layers, release)
        except Unknown as fault:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST", fault.message) from fault
        except Refused as fault:
            raise Refusal(409, "RESOURCE_CONFLICT", fault.message) from fault
        except EbbtideError as fault:
            raise Refusal(503, "TEMPORARILY_UNAVAILABLE", fault.message) from fault
        except Exception as fault:
            _log.exception("release %s cannot be looked at", release_id[:12])
            raise Refusal(500, "INTERNAL_ERROR", f"{type(fault).__name__}: {fault}") from fault
        pins = [
            {
                "layer": each.layer,
                "pin": each.pin.name,
                "digest": each.pin.digest,
                "problems": list(each.problems),
            }
            for each in found
        ]
        return orjson.dumps({"release": release.id, "pins": pins})
