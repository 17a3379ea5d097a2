"""One harness for every layer adapter: does it keep the promises of the port?"""

import json
from collections.abc import Sequence

from ebbtide.core.digests import canonical
from ebbtide.core.errors import Conflict, FloatingReference, Refused
from ebbtide.core.ports import Layer
from ebbtide.core.release import Pin

_NOTE = "layer-contract"


def layer_contract(
    layer: Layer,
    name: str,
    versions: tuple[str, str] = ("1", "2"),
    *,
    floating: Sequence[str] = ("latest",),
    removable: bool = True,
) -> None:
    """Prove an adapter on a store of your test's own: it is left as it was found.

    `versions` are two versions of the thing as a person would ask for them, with
    different contents. `floating` are words that would lead elsewhere tomorrow.
    `removable=False`: the projection can never show nothing, like a table.
    Raises AssertionError that says which promise is broken.
    """
    assert name in layer.names, f"{name} is not among the names {layer.names}"
    found = layer.live(name)
    one, two = (_pinned(layer, name, version) for version in versions)
    assert one.digest != two.digest, f"{versions} have the same content: nothing can be told apart"
    for word in floating:
        _refuses(layer, name, word)
    for pin in (one, two):
        _is_prepared(layer, pin)
    assert _same(layer.live(name), found), "pin, problems or prepare have changed what is live"
    _shows(layer, one, found)
    for turn in ("first", "second"):
        _goes_there_and_back(layer, one, two, turn)
    _keeps_what_others_moved(layer, one, two)
    if removable:
        _is_taken_away(layer, one, two)
    layer.move(name, found, only_from=(one,), note=_NOTE)
    assert _same(layer.live(name), found), f"what was live at first did not come back: {found}"


def _pinned(layer: Layer, name: str, version: str) -> Pin:
    pin, again = layer.pin(name, version), layer.pin(name, version)
    assert pin == again, f"{version} was pinned as {pin}, then as {again}"
    assert pin.name == name, f"the pin of {name} is named {pin.name}"
    assert len(pin.digest) == 64, f"a pin's digest is a sha256 of 64 digits, not {pin.digest!r}"
    back = Pin.from_json(json.loads(canonical(pin.to_json())))
    assert back == pin, f"{pin} does not come back from the journal: `at` must hold text by text"
    return back


def _refuses(layer: Layer, name: str, word: str) -> None:
    try:
        pin = layer.pin(name, word)
    except FloatingReference:
        return
    except Refused as fault:
        raise AssertionError(f"`{word}` must raise FloatingReference, not {fault!r}") from fault
    raise AssertionError(f"`{word}` can lead elsewhere tomorrow, and was pinned as {pin}")


def _is_prepared(layer: Layer, pin: Pin) -> None:
    for turn in ("first", "second"):
        layer.prepare(pin)
        problems = layer.problems(pin)
        assert not problems, f"{pin}, prepared a {turn} time, has problems: {problems}"


def _goes_there_and_back(layer: Layer, one: Pin, two: Pin, turn: str) -> None:
    """Do, undo, each twice: the second time changes nothing."""
    for to, was in ((two, one), (one, two)):
        for again in ("", ", done twice"):
            layer.move(to.name, to, only_from=(was,), note=_NOTE)
            live = layer.live(to.name)
            assert _same(live, to), f"{turn} turn{again}: moved to {to}, it shows {live}"


def _keeps_what_others_moved(layer: Layer, one: Pin, two: Pin) -> None:
    """It shows `one`, which the mover has not seen: neither do nor undo may touch that."""
    for only_from in ((None,), (two,), ()):
        try:
            layer.move(one.name, two, only_from=only_from, note=_NOTE)
        except Conflict:
            live = layer.live(one.name)
            assert _same(live, one), f"a refused move left {live}"
            continue
        raise AssertionError(
            f"it showed {one}, was to move only from {only_from or 'nothing at all'}, "
            "and moved: what somebody else did would be lost"
        )


def _is_taken_away(layer: Layer, one: Pin, two: Pin) -> None:
    try:
        layer.move(one.name, None, only_from=(two,), note=_NOTE)
    except Conflict:
        pass
    else:
        raise AssertionError(f"it showed {one}, and was taken away only from {two}")
    for again in ("", ", done twice"):
        layer.move(one.name, None, only_from=(one,), note=_NOTE)
        live = layer.live(one.name)
        assert live is None, f"taken away{again}, it shows {live}"
    _shows(layer, one, None)


def _shows(layer: Layer, pin: Pin, was: Pin | None) -> None:
    layer.move(pin.name, pin, only_from=(was,), note=_NOTE)
    live = layer.live(pin.name)
    assert _same(live, pin), f"moved to {pin}, it shows {live}"


def _same(one: Pin | None, other: Pin | None) -> bool:
    return (one.digest if one else None) == (other.digest if other else None)
