"""How a projection that has no compare-and-set of its own is moved all the same.

Read, compare, write, read back. The window between read and write is closed by
the saga's lease against other sagas, and by nothing against a person's hand;
the read-back is what tells whether it held.
"""

from collections.abc import Callable, Collection
from typing import TypeVar

from ebbtide.core.errors import Conflict, Unreachable
from ebbtide.core.fencing import still_ours
from ebbtide.core.release import Pin

_Seen = TypeVar("_Seen")


def hand_over(
    what: str,
    to: Pin | None,
    only_from: Collection[Pin | None],
    *,
    shown: Callable[[], _Seen | None],
    identity: Callable[[Pin], _Seen],
    show: Callable[[Pin | None], None],
) -> None:
    """Let `what` show `to` where it shows one of `only_from`; nothing where it does already.

    `identity` is what of a pin the projection can show. Raises `Conflict` where
    somebody else has moved it, `Unreachable` where the outcome cannot be read.
    """

    def meant(pin: Pin | None) -> _Seen | None:
        return None if pin is None else identity(pin)

    now, wanted = shown(), meant(to)
    if now == wanted:
        return
    if now not in [meant(pin) for pin in only_from]:
        raise _moved(what, now, wanted)
    still_ours()
    try:
        show(to)
    except Unreachable:
        # The answer was lost, not necessarily the write: only reading tells.
        if shown() != wanted:
            raise
    now = shown()
    if now != wanted:
        raise _moved(what, now, wanted)


def _moved(what: str, now: object, wanted: object) -> Conflict:
    return Conflict(
        f"{what} shows {_word(now)}, while it was about to show {_word(wanted)}.",
        remedy="Somebody else has moved it: find out who, then plan again.",
    )


def _word(seen: object) -> str:
    if seen is None:
        return "nothing"
    if isinstance(seen, tuple):
        return " ".join(str(part) for part in seen if part)
    return str(seen)
