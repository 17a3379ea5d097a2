"""What a system sets off in the world: held while it moves, and settled once it has."""

from collections.abc import Collection
from typing import Literal

from ebbtide.core.effects import BEGIN_WITHIN, Effect, State, for_a_person
from ebbtide.core.errors import Conflict, GateNotPassed, UndoConflict
from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.ports import World
from ebbtide.core.release import Release
from ebbtide.core.saga import Move
from ebbtide.core.step import TEXT, aside, compensatable
from tasks.route import lease
from tasks.waiting import until

_SPARE = 2.0
"""Seconds beside those that a claim lasts: the journal's clock counts, not this one's."""
_NAMED = 5
"""Effects that a sentence names at most."""


def holder(world: World, _move: Move) -> str:
    """The saga that holds dispatch already; empty where none does."""
    held = world.journal.effects_held(world.system)
    return held.saga if held else ""


def are_set_off(world: World) -> bool:
    """The system sets off side effects, or did."""
    return world.receivers is not None or bool(world.journal.effects(world.system))


@compensatable(remember=holder, memory=TEXT)
def hold(world: World, move: Move, _was: str) -> None:
    """Hold the dispatch of side effects."""
    world.journal.hold_effects(lease(world, move))


def are_held(world: World, move: Move) -> Finding:
    """The hold is read back, and whoever had claimed an effect has begun to send it by now."""
    if holder(world, move) != move.saga:
        return failed("The dispatch of side effects is not held.")

    def look() -> Literal[True] | None:
        return None if _beginning(world) else True

    if not until(look, BEGIN_WITHIN + _SPARE):
        return failed("A dispatcher still begins to send.")
    under_way = len(world.journal.effects(world.system, state=State.SENDING))
    more = f"; {under_way} that had begun before are still under way" if under_way else ""
    return passed(f"dispatch is held{more}", under_way=under_way)


def let_go(world: World, move: Move, was: str) -> None:
    """Cancel what the target has set off meanwhile, and let dispatch go on."""
    held = world.journal.effects_held(world.system)
    if held is None or held.saga != move.saga:
        return
    route = world.journal.route(world.system)
    if (route.release if route else "") != (move.source.id if move.source else ""):
        raise UndoConflict(
            "The route is not back, so the dispatch of side effects stays held.",
            remedy=f"Once it is: ebbtide recover {world.system} --saga {move.saga}.",
        )
    under = lease(world, move)
    if not was:
        why = f"{move.target.short} was taken back, not proved"
        world.journal.cancel_effects(under, move.target.id, since=held.since, why=why)
        world.journal.let_effects_go(under)


@aside
def settle(world: World, move: Move, _was: None) -> None:
    """Cancel what the bad release queued; undo what was sent, newest first, where that can be."""
    bad = _bad(move)
    if bad is None:
        return
    until(lambda: None if _under_way(world, bad) else True, _longest(world) + _SPARE)
    why = f"{bad.short} was rolled back: {move.reason}".rstrip(": ")
    try:
        world.journal.settle_effects(lease(world, move), bad.id, why)
    except Conflict as fault:
        raise Conflict(
            f"{fault.message} The dispatch of side effects stays held.",
            remedy=f"Then: ebbtide recover {world.system} --saga {move.saga}.",
        ) from fault


def are_settled(world: World, move: Move) -> Finding:
    """Nothing of the bad release waits to be sent; what a person must see to is named."""
    bad = _bad(move)
    if bad is None:
        return passed("there was no release before")
    left = _unsettled(world, bad)
    if left:
        return failed(f"Not settled: {_listed(left)}. Dispatch stays held.")
    mine = world.journal.effects(world.system, saga=move.saga)
    cancelled = sum(effect.state is State.CANCELLED for effect in mine)
    undos = sum(bool(effect.undoes) for effect in mine)
    theirs = [effect for effect, _ in for_a_person(mine)]
    told = f"{cancelled} cancelled, {undos} to be undone"
    if theirs:
        told += f", {len(theirs)} for a person: {_listed(theirs)}. {command(world, move)}"
    corrections = [effect.key for effect in theirs]
    return passed(told, cancelled=cancelled, undos=undos, corrections=corrections)


@aside
def resume(world: World, move: Move, _was: None) -> None:
    """Let dispatch go on, also where an earlier saga ended without doing so."""
    bad = _bad(move)
    if bad and (left := _unsettled(world, bad)):
        raise GateNotPassed(
            f"Dispatch stays held: of {bad.short} are not settled {_listed(left)}.",
            remedy=f"Then: ebbtide recover {world.system} --saga {move.saga}.",
        )
    if bad and bad.id not in world.journal.quarantined(world.system):
        raise GateNotPassed(f"Dispatch stays held: {bad.short} is not quarantined yet.")
    if world.journal.effects_held(world.system):
        world.journal.hold_effects(lease(world, move))
        world.journal.let_effects_go(lease(world, move))


def goes_on(world: World, move: Move) -> Finding:
    """Nothing holds the dispatch any more."""
    saga = holder(world, move)
    return failed(f"Saga {saga} still holds it.") if saga else passed("effects are sent again")


def command(world: World, move: Move) -> str:
    """What lists the corrections, as a person types it."""
    return f"ebbtide effects {world.system} --saga {move.saga} --csv corrections.csv"


def _bad(move: Move) -> Release | None:
    """What was rolled back. A promotion or a refresh leaves nothing bad behind."""
    return move.bad


def _beginning(world: World) -> bool:
    now = world.journal.now()
    sending = world.journal.effects(world.system, state=State.SENDING)
    return any(now - (effect.claimed_at or now) <= BEGIN_WITHIN for effect in sending)


def _under_way(world: World, bad: Release) -> bool:
    now = world.journal.now()
    sending = world.journal.effects(world.system, state=State.SENDING, release=bad.id)
    return any(not effect.undoes and (effect.claim_until or 0) >= now for effect in sending)


def _longest(world: World) -> float:
    now = world.journal.now()
    sending = world.journal.effects(world.system, state=State.SENDING)
    return max([(effect.claim_until or now) - now for effect in sending], default=0.0)


def _unsettled(world: World, bad: Release) -> list[Effect]:
    waiting = [
        effect
        for state in (State.QUEUED, State.SENDING)
        for effect in world.journal.effects(world.system, state=state, release=bad.id)
    ]
    return [effect for effect in waiting if not effect.undoes]


def _listed(effects: Collection[Effect]) -> str:
    named = ", ".join(effect.key for effect in list(effects)[:_NAMED])
    return f"{named} and {len(effects) - _NAMED} more" if len(effects) > _NAMED else named
