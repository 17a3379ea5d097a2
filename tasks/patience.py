"""Trying again where a store is away for a moment: bounded for each call by itself.

Only what is `Unreachable` is tried again: every do and undo is idempotent, so
an unknown outcome is settled by doing it once more. How long one attempt may
take is for the adapters to bound.
"""

from collections.abc import Callable

from ebbtide.core.engine import Call
from ebbtide.core.errors import Unreachable
from ebbtide.core.saga import Phase

Perform = Callable[[Call, Callable[[], object]], object]

_ATTEMPTS = 4
_WITHIN = {
    Phase.PREFLIGHT: 3.0,
    Phase.PREPARE: 60.0,
    Phase.CUT_OVER: 3.0,
    Phase.PROVE: 3.0,
    Phase.SETTLE: 15.0,
}
"""Seconds that trying again may add to one do, proof or take-back. Short where requests
are answered by a release that is being left; long where nothing live is touched."""
_FIRST, _LONGEST = 0.1, 5.0
"""Seconds of the first pause at most, which doubles each time, and of any."""


def patiently(perform: Perform) -> Perform:
    """The same way to carry calls out, with a few attempts where a store is away."""

    def carry_out(call: Call, function: Callable[[], object]) -> object:
        return perform(call, lambda: _attempts(call, function))

    return carry_out


def _attempts(call: Call, function: Callable[[], object]) -> object:
    try:
        return function()
    except Unreachable as fault:
        first = fault
    # Loaded where it is needed: mostly nothing is away.
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        stop_after_attempt,
        stop_after_delay,
        wait_random_exponential,
    )

    pauses = wait_random_exponential(multiplier=_FIRST, max=_LONGEST)
    retrying = Retrying(
        retry=retry_if_exception_type(Unreachable),
        stop=stop_after_attempt(_ATTEMPTS - 1) | stop_after_delay(_WITHIN[call.phase]),
        wait=pauses,
        reraise=True,
    )
    retrying.sleep(_FIRST)
    try:
        return retrying(function)
    except Unreachable as fault:
        raise fault from first
