"""One thing after another that a rollback needs, and how it was found. Reads only."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ebbtide.core.effects import Effect
from ebbtide.core.errors import EbbtideError, Unreachable
from ebbtide.core.journal import Route
from ebbtide.core.journal_age import signs
from ebbtide.core.paying import owed
from ebbtide.core.ports import World
from ebbtide.core.saga import SagaState
from ebbtide.core.waiting_effects import gave_up, let_go_by, queued, retried_by

_NAMED = 5
"""Effects that a sentence names at most."""


class State(StrEnum):
    """How one thing was found."""

    FINE = "fine"
    WITHOUT = "away"
    """Away, and a rollback goes without it."""
    PERSON = "for a person"
    """A person has to see to it, and no rollback depends on that."""
    WRONG = "wrong"
    UNKNOWN = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and why it is not fine."""

    what: str
    state: State
    why: str = ""
    stops: bool = False
    """No level works while it is so."""


def looked(what: str, look: Callable[[], Iterable[str]], *, stops: bool = False) -> Check:
    """A check of a function that says what is wrong. What it raises is not fine either."""
    try:
        wrong = list(look())
    except EbbtideError as fault:
        state = State.UNKNOWN if isinstance(fault, Unreachable) else State.WRONG
        return Check(what, state, said(fault), stops)
    except Exception as fault:  # noqa: BLE001 - a check that breaks has not found it fine
        return Check(what, State.UNKNOWN, said(fault), stops)
    return Check(what, State.WRONG if wrong else State.FINE, " ".join(wrong), stops and bool(wrong))


def of_trail(world: World) -> Check:
    """Whether the journal says what was written, and all of it."""

    def look() -> Iterator[str]:
        yield from world.journal.verify()
        yield from signs(world)

    return looked("audit trail", look, stops=True)


def of_journal(world: World) -> Check:
    def look() -> Iterator[str]:
        world.journal.try_write()
        yield from ()

    check = looked("journal", look)
    # It was read a moment ago: who cannot write it cannot roll back.
    return check if check.state is State.FINE else Check(check.what, State.WRONG, check.why, True)


def of_sagas(world: World) -> Iterator[Check]:
    for line in owed(world):
        yield Check("owed", State.WRONG, f"{line}. Then: ebbtide recover {world.system}.")
    newest = world.journal.sagas(world.system, limit=1)
    for saga in newest:
        if saga.state is SagaState.OPEN:
            why = f"Saga {saga.id} is open, ordered by {saga.by}: another would be refused."
            if world.journal.abandoned(world.system):
                why += f" Its process has died: ebbtide recover {world.system}."
            yield Check("open saga", State.WRONG, why, stops=True)


def of_effects(world: World) -> Iterator[Check]:
    """Neither keeps a rollback from working: what failed may have to stay so."""
    held = world.journal.effects_held(world.system)
    if held is not None:
        why = f"Saga {held.saga} holds {_listed(queued(world))}. Then: {let_go_by(world, held)}."
        yield Check("effects held", State.WRONG, why)
    failed = gave_up(world)
    if failed:
        why = f"Given up: {_listed(failed)}. Once the cause is mended: {retried_by(failed[0])}."
        if len(failed) > 1:
            why += f" All of them: ebbtide effects {world.system} --state failed."
        yield Check("effects failed", State.PERSON, why)


def _listed(effects: Sequence[Effect]) -> str:
    named = ", ".join(effect.key for effect in effects[:_NAMED]) or "nothing that is queued"
    return f"{named} and {len(effects) - _NAMED} more" if len(effects) > _NAMED else named


def of_replicas(world: World, route: Route | None) -> Iterator[Check]:
    replicas, needed = world.serving.replicas(), world.policy.replicas
    if len(replicas) < needed:
        why = f"{needed} live replicas are needed; there are {len(replicas)}."
        yield Check("replicas", State.WRONG, why, stops=True)
    for replica in replicas:
        wrong = route is not None and (replica.release, replica.epoch) != (
            route.release,
            route.epoch,
        )
        why = f"It serves {replica.release[:12] or 'nothing'} in epoch {replica.epoch}."
        yield Check(
            f"replica {replica.name}", State.WRONG if wrong else State.FINE, why if wrong else ""
        )


def of_cache(world: World, route: Route | None) -> Check:
    try:
        token = world.cache.epoch()
    except Unreachable as fault:
        return Check("cache", State.WITHOUT, f"{fault.message} A rollback goes without it.")
    except Exception as fault:  # noqa: BLE001 - whatever a cache raises
        return Check("cache", State.UNKNOWN, said(fault))
    if route is not None and token != route.token:
        return Check("cache", State.WRONG, f"Its epoch is {token or 'none'}, not {route.token}.")
    return Check("cache", State.FINE)


def said(fault: Exception) -> str:
    return str(fault) if isinstance(fault, EbbtideError) else f"{type(fault).__name__}: {fault}"
