"""For your own jobs and handlers: set something off in the world, so that it can be taken back.

    from ebbtide import effects

    effects.queue(
        "shop-search", "price", {"article": 17, "price": 9.90}, key="price/17/2026-03-01",
        klass="reversible", undo=effects.Undo("price", {"article": 17, "price": 11.50}),
    )

The effect is written down, and `ebbtide effects SYSTEM --dispatch --watch` sends it
to the target of its kind in the system file: at least once, with its key in the
header `Idempotency-Key`. While a rollback cuts over nothing is sent; what the bad
release queued is cancelled then, and what it sent is undone by `undo`.

`klass` says what can be done about it later: `reversible` (the undo gives back
what was there), `compensatable` (the undo makes up for it) or `irreversible`
(a person is told). `system` is a name below EBBTIDE_SYSTEMS (else
`configs/systems`), or a `World` from `ebbtide.bootstrap.open_world`, which a job
that queues many effects opens once.
"""

import os
from pathlib import Path
from re import fullmatch
from typing import Any

from ebbtide.core.digests import canonical
from ebbtide.core.effects import UNDO, Effect, EffectClass, Undo, Wish
from ebbtide.core.errors import Refused, Unknown
from ebbtide.core.ports import World

__all__ = ["Effect", "EffectClass", "Undo", "queue"]

_KEY = r"[A-Za-z0-9_][A-Za-z0-9_.:@+/-]{0,199}"
_LARGEST = 262_144


def queue(
    system: str | World,
    kind: str,
    payload: Any,
    *,
    key: str,
    klass: EffectClass | str,
    undo: Undo | None = None,
    release: str = "",
    systems: Path | str = "",
) -> Effect:
    """Queue an effect of a release: of the live one, or of the one named. Safe to repeat.

    `payload`: what is sent, as JSON, at most 256 KiB. `key`: the same key again is
    the same effect, whatever is live by then; where a rollback cancelled it before
    it was sent, another release may queue it anew. `undo`: what is sent to undo
    it; its payload may hold `{key}` and `{answer.ticket.id}`, a part of the
    receiver's JSON answer.

    Raises `Refused` for what cannot be sent and where nothing is live, `Unknown`
    for a kind without a target, `Conflict` where the key stands for another
    effect, `Quarantined` where the release was rolled back, `Unreachable`.
    """
    world = _world(system, systems)
    wish = Wish(kind, _class(klass), payload, key, undo)
    _check(world, wish)
    wanted = world.journal.release(release, world.system).id if release else _live(world)
    return world.journal.queue_effect(world.system, wanted, wish)


def _world(system: str | World, systems: Path | str) -> World:
    if isinstance(system, World):
        return system
    from ebbtide.bootstrap import SYSTEMS, open_world

    return open_world(system, Path(systems or os.environ.get("EBBTIDE_SYSTEMS", "") or SYSTEMS))


def _class(klass: EffectClass | str) -> EffectClass:
    try:
        return EffectClass(klass)
    except ValueError as fault:
        known = ", ".join(EffectClass)
        raise Refused(
            f"`{klass}` is no class of effects.", remedy=f"It is one of {known}."
        ) from fault


def _check(world: World, wish: Wish) -> None:
    if not fullmatch(_KEY, wish.key) or wish.key.startswith(UNDO):
        raise Refused(
            f"{wish.key[:80]!r} is no key of an effect.",
            remedy=f"Letters, digits and `_.:@+/-`, at most 200; `{UNDO}` is ebbtide's own.",
        )
    if (wish.klass is EffectClass.IRREVERSIBLE) is not (wish.undo is None):
        raise Refused(
            f"Effect {wish.key} is {wish.klass} and has {'an' if wish.undo else 'no'} undo.",
            remedy="What can be undone needs an undo; what is irreversible has none.",
        )
    known = world.receivers.told if world.receivers else {}
    for kind in {wish.kind, *({wish.undo.kind} if wish.undo else ())}:
        if kind not in known:
            there = ", ".join(known) or "none"
            raise Unknown(
                f"{world.system} has no target for effects `{kind}`.",
                remedy=f"The system file names under `effects.targets`: {there}.",
            )
    for payload in (wish.payload, *((wish.undo.payload,) if wish.undo else ())):
        _check_payload(wish.key, payload)


def _check_payload(key: str, payload: Any) -> None:
    try:
        size = len(canonical(payload))
    except (ValueError, TypeError) as fault:
        raise Refused(f"The payload of effect {key} is no JSON: {fault}") from fault
    if size > _LARGEST:
        raise Refused(
            f"The payload of effect {key} has {size:,} bytes.",
            remedy=f"At most {_LARGEST:,}: send where the content lies, not the content.",
        )


def _live(world: World) -> str:
    route = world.journal.route(world.system)
    if route is None or not route.release:
        raise Refused(
            f"{world.system} serves no release yet, so nothing is known to set this off.",
            remedy="Name the release.",
        )
    return route.release
