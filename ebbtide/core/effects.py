"""Side effects: what a system sets off in the world, kept in an outbox until it is sent.

A cut-over holds the outbox. Settling cancels what the bad release queued, undoes
what can be undone, newest first, and names the rest for a person.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from ebbtide.core.lease import Lease

BEGIN_WITHIN = 1.0
"""Seconds after its claim in which an effect may begin to be sent, never later."""

UNDO = "undo/"
"""What the key of an effect begins with that undoes another."""


class EffectClass(StrEnum):
    """What can be done about an effect once it was sent."""

    REVERSIBLE = "reversible"
    """Its undo gives back exactly what was there before."""
    COMPENSATABLE = "compensatable"
    """Its undo makes up for it: a second mail, a refund."""
    IRREVERSIBLE = "irreversible"
    """Nothing takes it back: a person has to see what can be done."""


class State(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    CANCELLED = "cancelled"
    """It is not sent any more."""
    UNDONE = "undone"
    """The effect that undoes it was sent."""
    FAILED = "failed"
    """Its receiver refused it, or did not take it at any attempt."""


OVER = frozenset({State.SENT, State.UNDONE, State.CANCELLED, State.FAILED})
"""Nothing is sent of it any more by itself."""


@dataclass(frozen=True, slots=True)
class Undo:
    """What is sent to undo an effect.

    In the payload, `{key}` as a whole text stands for the effect's key, and
    `{answer.ticket.id}` for that part of the receiver's JSON answer to it.
    """

    kind: str
    payload: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Wish:
    """An effect as somebody asks for it."""

    kind: str
    """What it is, such as `mail`: the system file says where it goes."""
    klass: EffectClass
    payload: Any = field(repr=False)  # it may be about somebody, and a repr lands in logs
    key: str
    undo: Undo | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect as the journal has it. Times in seconds since the epoch."""

    system: str
    key: str
    """Unique in its system: queued twice with the same key is queued once."""
    release: str
    kind: str
    klass: EffectClass
    payload: Any = field(repr=False)
    undo: Undo | None
    undoes: str
    """The key of the effect that this one undoes; empty: it is no undo."""
    saga: str
    """The saga that settled it, or queued it as an undo; empty: none did."""
    state: State
    attempts: int
    unsure: bool
    """An attempt ended without an answer that says whether it took effect."""
    queued_at: float
    due_at: float
    """It is not sent before that time."""
    sent_at: float | None
    answer: str = field(repr=False)
    """What the receiver answered, its beginning. It may repeat the payload."""
    why: str
    """What went wrong last, or why it was cancelled."""
    claim: str = ""
    """Who sends it now."""
    claimed_at: float | None = None
    claim_until: float | None = None
    forgotten: bool = False
    """What it sent, was answered and would undo it was deleted with its release."""

    @property
    def may_have_arrived(self) -> bool:
        return self.state in (State.SENT, State.UNDONE) or self.unsure


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing of the system is sent while this stands."""

    saga: str
    since: float


@dataclass(frozen=True, slots=True)
class Sent:
    """How one attempt to send an effect ended."""

    ended: "Ended"
    said: str
    """In a sentence, without anything of the payload or the answer: it is logged."""
    answer: str = field(default="", repr=False)
    unsure: bool = False
    """It may have taken effect all the same."""
    wait: float | None = None
    """Seconds that the receiver asks to wait before another attempt."""


class Ended(StrEnum):
    TAKEN = "taken"
    AGAIN = "again"
    """Temporary: another attempt may be taken."""
    REFUSED = "refused"
    """For good."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """How effects of one kind are sent."""

    timeout: float = 5.0
    """Seconds for connecting and for each wait for an answer."""
    attempts: int = 10
    backoff: float = 1.0
    """Seconds before the second attempt; twice as long before each that follows."""

    @property
    def claim_lasts(self) -> float:
        """Seconds by which an attempt has ended: connect, write, read, and some to spare."""
        return 3 * self.timeout + 5


class Receivers(Protocol):
    """Where effects go."""

    @property
    def told(self) -> Mapping[str, Receiver]:
        """The kinds that the system file names."""

    def send(self, effect: Effect) -> Sent:
        """One attempt, with the effect's key, so that a receiver can tell it from a second one.

        Raises nothing that the receiver is to blame for.
        """


class Outbox(Protocol):
    """The part of the journal that keeps effects."""

    def queue_effect(self, system: str, release: str, wish: Wish) -> Effect:
        """Write the effect down, to be sent. The same key again is the effect that is there.

        Raises `Conflict` where that is another one, `Quarantined` for a release
        that was rolled back, `Unknown` for one that the system does not have. A
        cancelled effect that never left may be queued anew by another release.
        """

    def effect(self, system: str, key: str) -> Effect | None: ...

    def effects(
        self, system: str, *, state: str = "", saga: str = "", release: str = ""
    ) -> list[Effect]:
        """In the order in which they were queued; `saga`: those that it settled or queued."""

    def claim_effect(self, system: str, lasts: Mapping[str, float]) -> Effect | None:
        """The next effect that is due, for this caller alone; None where there is none.

        `lasts`: seconds until others may take it over, by kind, `""` for other
        kinds. Nothing while dispatch is held, nothing of a quarantined release.
        """

    def end_claim(self, claimed: Effect, sent: Sent, *, wait: float | None) -> bool:
        """How the attempt ended; `wait`: seconds until the next, None: there is none.

        False, and nothing written, where it is this caller's claim no more.
        """

    def hold_effects(self, lease: Lease) -> None:
        """Let nothing be sent from now on. Idempotent; an ended saga's hold becomes this one's."""

    def let_effects_go(self, lease: Lease) -> None:
        """Idempotent; another saga's hold stays."""

    def effects_held(self, system: str) -> Hold | None: ...

    def cancel_effects(self, lease: Lease, release: str, *, since: float, why: str) -> None:
        """Cancel what the release queued since then and was not sent. Idempotent."""

    def settle_effects(self, lease: Lease, release: str, why: str) -> None:
        """Cancel what the release queued, and queue the undo of what may have arrived.

        Undos are queued in the reverse order of sending. Idempotent. Raises
        `Conflict` while something of it is being sent.
        """

    def requeue_effect(self, system: str, key: str, *, by: str, reason: str) -> Effect:
        """A person wants a failed or cancelled effect sent after all.

        Raises `Unknown`, `Refused` where it is neither, `Quarantined`.
        """

    def forget_effects(self, system: str, *, by: str) -> int:
        """Delete what effects of given up releases sent and were answered, once they are over.

        Returns how many. Idempotent: what is still waiting is forgotten the next time.
        """


def for_a_person(effects: Collection[Effect]) -> list[tuple[Effect, str]]:
    """Forward corrections: what took effect, or may have, and nothing of ours undoes.

    Of the effects that one saga settled or queued; each with the reason.
    """
    undos = {effect.undoes: effect for effect in effects if effect.undoes}
    found = ((effect, _why(effect, undos.get(effect.key))) for effect in effects)
    return [(effect, why) for effect, why in found if why]


def _why(effect: Effect, undo: Effect | None) -> str:
    if effect.undoes or effect.state is State.UNDONE or not effect.may_have_arrived:
        return ""
    arrived = "It was sent" if effect.state is State.SENT else "It may have arrived"
    if undo is None:
        cause = "it cannot be undone" if effect.undo is None else "its undo could not be made"
        return f"{arrived}, and {cause}."
    if undo.state in (State.FAILED, State.CANCELLED):
        return f"{arrived}, and its undo failed: {undo.why}"
    return ""
