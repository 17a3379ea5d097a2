"""Sending what the outbox has, one effect at a time, each attempt under a claim of its own.

At least once: who dies between sending and writing that down leaves a claim that
runs out, and the effect is sent again with the same key. What is to be tried
again waits in the journal, not in a process, so that a hold or a quarantine is
seen before every attempt, and a restart forgets nothing.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from ebbtide.core.crashpoints import reach
from ebbtide.core.effects import BEGIN_WITHIN, Effect, Ended, Receiver, Receivers, Sent
from ebbtide.core.errors import BadConfiguration
from ebbtide.core.ports import World

_LONGEST = 300.0
"""Seconds between two attempts at most, unless the receiver asks for more."""
_LONGEST_ASKED = 86_400.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One effect as it was claimed, and how sending it ended."""

    effect: Effect
    sent: Sent
    wait: float | None
    """Seconds until the next attempt; None: there is none."""

    @property
    def lost(self) -> bool:
        """It was given up."""
        return self.wait is None and self.sent.ended is not Ended.TAKEN


def next_one(world: World) -> Attempt | None:
    """Send one effect that is due; None where nothing is, or dispatch is held.

    Raises `BadConfiguration` where the system file names no receivers.
    """
    receivers = _receivers(world)
    before = monotonic()
    lasts = {kind: told.claim_lasts for kind, told in receivers.told.items()}
    claimed = world.journal.claim_effect(world.system, {**lasts, "": Receiver().claim_lasts})
    if claimed is None:
        return None
    reach("effects.dispatch/claimed")
    sent = _sent(receivers, claimed, before)
    reach("effects.dispatch/sent")
    wait = _wait(receivers.told.get(claimed.kind, Receiver()), claimed, sent)
    world.journal.end_claim(claimed, sent, wait=wait)
    return Attempt(claimed, sent, wait)


def all_due(
    world: World, tell: Callable[[Attempt], None], *, stop: Callable[[], bool] = lambda: False
) -> int:
    """Send until nothing is due any more; how many effects were given up."""
    lost = 0
    while not stop() and (attempt := next_one(world)) is not None:
        tell(attempt)
        lost += attempt.lost
    return lost


def _receivers(world: World) -> Receivers:
    if world.receivers is None:
        raise BadConfiguration(
            f"The system file of `{world.system}` names nowhere to send effects to.",
            remedy="Name a target for each kind: `effects: {targets: {mail: {url: https://...}}}`.",
        )
    return world.receivers


def _sent(receivers: Receivers, claimed: Effect, before: float) -> Sent:
    if claimed.kind not in receivers.told:
        return Sent(Ended.AGAIN, f"The system file names no target for `{claimed.kind}`.")
    # Whoever holds dispatch waits only so long for what was claimed before.
    if monotonic() - before > BEGIN_WITHIN:
        return Sent(Ended.AGAIN, "This process was too slow to begin.")
    return receivers.send(claimed)


def _wait(receiver: Receiver, claimed: Effect, sent: Sent) -> float | None:
    """Twice as long each time, of which chance takes up to a half off: no herds."""
    if sent.ended is not Ended.AGAIN or claimed.attempts >= receiver.attempts:
        return None
    grown = receiver.backoff * 2.0 ** min(claimed.attempts - 1, 30)
    wait = min(grown, max(_LONGEST, receiver.backoff)) * random.uniform(0.5, 1)  # noqa: S311 - spreads load, hides nothing
    return max(wait, min(sent.wait or 0.0, _LONGEST_ASKED))
