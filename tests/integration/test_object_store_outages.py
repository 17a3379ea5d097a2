"""An object store that goes away, and one whose answers are lost: said at once, and read back."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta import tables as delta
from ebbtide.adapters.delta import versions
from ebbtide.adapters.delta.leased import LeasedTables
from ebbtide.adapters.delta.versions import return_properties
from ebbtide.adapters.system.file import DataThing
from ebbtide.core.errors import Held, Unreachable
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.release import Pin
from ebbtide.core.saga import Level, SagaState
from ebbtide.testing import fake_world
from ebbtide.writing import append
from flows.order import carry_out
from flows.unfinished import finish
from tests.integration.object_store import (  # noqa: F401 - fixtures
    LOG,
    RIDES,
    SAGA,
    SYSTEM,
    Bucket,
    Stored,
    before,
    bucket,
    endpoint,
    live,
    of,
    operations,
    properties,
    stored,
    tables,
    uri,
)
from tests.leased_tables import KEPT, infos, prices, promote, rows

# ruff: noqa: F811 - pytest's way to ask for a fixture


@pytest.fixture(autouse=True)
def soon_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as ever, but not after ever longer pauses."""
    monkeypatch.setitem(versions._REMOTE, "backoff_config.init_backoff", "5ms")
    monkeypatch.setitem(versions._REMOTE, "backoff_config.max_backoff", "20ms")


def go_back(tables: LeasedTables, to: Pin) -> None:
    tables.move("rides", to, only_from=[live(tables)], note=SAGA)


ASKED: dict[str, Callable[[LeasedTables, Pin], object]] = {
    "pin": lambda tables, _: tables.pin("rides", "1"),
    "live": lambda tables, _: tables.live("rides"),
    "problems": lambda tables, pin: tables.problems(pin),
    "prepare": lambda tables, pin: tables.prepare(pin),
    "move": lambda tables, pin: tables.move("rides", pin, only_from=[], note=SAGA),
    "go_back": go_back,
    "is_moved": lambda tables, pin: tables.is_moved("rides", pin, SAGA),
    "lost_outside": lambda tables, pin: tables.lost_outside(pin),
    "hold": lambda tables, _: tables.hold_writers("rides", SYSTEM, SAGA),
    "let_go": lambda tables, _: tables.let_writers_go("rides", SYSTEM),
    "held_by": lambda tables, _: tables.held_by("rides", SYSTEM),
    "keep_left": lambda tables, pin: tables.keep_left(pin, pin, SAGA),
    "dated": lambda tables, _: tables.dated("rides", 1.0),
    "read": lambda tables, pin: tables.read(pin),
}


def test_a_store_that_is_away_is_unreachable_after_few_retries(
    tables: LeasedTables, uri: str, bucket: Bucket
) -> None:
    pin = tables.pin("rides", "1")
    with bucket.away():
        for what, ask in ASKED.items():
            with pytest.raises(Unreachable, match="after 3 retries") as away:
                ask(tables, pin)
            assert uri in away.value.message, what
        with pytest.raises(Unreachable, match=r"after 3 retries.*Nothing was appended"):
            append(uri, rows(5.0))
    assert tables.problems(pin) == []


@pytest.mark.parametrize(("what", "asked"), [("scan", "read"), ("restore", "go_back")])
def test_one_that_goes_away_meanwhile_is_unreachable_and_no_damage(
    tables: LeasedTables, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, what: str, asked: str
) -> None:
    pin, there = tables.pin("rides", "1"), bucket.content()
    before(monkeypatch, what, bucket.leave)
    with pytest.raises(Unreachable):
        ASKED[asked](tables, pin)
    bucket.come_back()
    assert bucket.content() == there
    ASKED[asked](tables, pin)


@pytest.mark.parametrize("asked", ["problems", "hold", "append", "move"])
def test_whichever_request_fails_it_is_unreachable_and_the_next_attempt_goes_on(
    tables: LeasedTables,
    uri: str,
    bucket: Bucket,
    stored: Stored,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
) -> None:
    # Each of some thirty requests fails once: how often it is sent again is not tried here.
    monkeypatch.setitem(versions._REMOTE, "max_retries", "1")
    pin, was = tables.pin("rides", "1"), live(tables)
    before = prices(stored())
    DeltaTable(uri).create_checkpoint()
    asks: dict[str, Callable[[], object]] = {
        "append": lambda: append(uri, rows(5.0), run="2026-11-20", wait=0),
        "move": lambda: tables.move("rides", pin, only_from=[was], note=SAGA),
    }
    ask = asks.get(asked, lambda: ASKED[asked](tables, pin))
    for requests in count():
        with bucket.answering(requests), suppress(Unreachable):
            ask()
            break
    assert requests > 3, "among them those for the checkpoint"
    after = {"move": [1.0, 2.0], "append": sorted([*before, 5.0])}
    assert prices(stored()) == after.get(asked, before)
    assert operations(stored()).count("RESTORE") == (asked == "move")
    assert properties(stored()).keys() - KEPT.keys() == (
        {f"ebbtide.fence.{SYSTEM}"} if asked == "hold" else set()
    )
    assert tables.problems(pin) == []


def test_a_restore_cut_off_before_its_properties_is_finished_by_the_next_move(
    tables: LeasedTables, bucket: Bucket, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, to = live(tables), tables.pin("rides", "1")
    tables.hold_writers("rides", SYSTEM, SAGA)

    def leave(*args: Any) -> bool:
        bucket.leave()
        return return_properties(*args)

    with monkeypatch.context() as patch:
        patch.setattr(delta, "return_properties", leave)
        with pytest.raises(Unreachable):
            tables.move("rides", to, only_from=[was], note=SAGA)
    bucket.come_back()
    assert properties(stored()) == {}
    assert tables.held_by("rides", SYSTEM) == SAGA, "it stands in between as well"
    assert tables.is_moved("rides", was, SAGA)
    tables.move("rides", to, only_from=[was], note=SAGA)
    assert properties(stored()) == {**KEPT, f"ebbtide.fence.{SYSTEM}": SAGA}
    assert operations(stored()).count("RESTORE") == 1


def test_what_was_done_and_its_answer_lost_is_known_by_reading_back(
    tables: LeasedTables, uri: str, bucket: Bucket, stored: Stored
) -> None:
    was, to = live(tables), tables.pin("rides", "1")
    bucket.lose_an_answer()
    tables.hold_writers("rides", SYSTEM, SAGA)
    assert tables.held_by("rides", SYSTEM) == SAGA
    bucket.lose_an_answer()
    tables.move("rides", to, only_from=[was], note=SAGA)
    bucket.lose_an_answer()
    tables.let_writers_go("rides", SYSTEM)
    assert tables.held_by("rides", SYSTEM) == "" and properties(stored()) == KEPT
    assert operations(stored()).count("RESTORE") == 1
    bucket.lose_an_answer()
    version = append(uri, rows(5.0), run="2026-11-20", wait=0)
    assert append(uri, rows(5.0), run="2026-11-20", wait=0) == version
    bucket.lose_an_answer()
    append(uri, rows(6.0), wait=0)
    assert prices(stored()) == [1.0, 2.0, 5.0, 6.0]


@pytest.mark.parametrize("committed", [False, True])
def test_an_append_with_an_unknown_end_says_so_and_is_safe_to_repeat(
    uri: str, bucket: Bucket, stored: Stored, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    def write(*args: Any, **options: Any) -> None:
        if committed:
            write_deltalake(*args, **options)
        bucket.leave()
        if not committed:
            write_deltalake(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("deltalake.write_deltalake", write)
        with pytest.raises(Unreachable, match=r"not known.*same `run`"):
            append(uri, rows(5.0), run="2026-11-20", wait=0)
    bucket.come_back()
    assert prices(stored()).count(5.0) == committed
    assert append(uri, rows(5.0), run="2026-11-20", wait=0) == 4
    assert prices(stored()).count(5.0) == 1


def test_an_append_without_a_name_is_to_be_looked_for(
    uri: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deltalake.write_deltalake", lambda *_, **__: bucket.leave())
    with pytest.raises(Unreachable, match="Look for them in the table"):
        append(uri, rows(5.0), wait=0)


@pytest.fixture
def world(bucket: Bucket, tmp_path: Path) -> World:
    """The good release was promoted with versions 1 of both tables, the bad one with versions 2."""
    things = {
        "rides": DataThing(path=bucket.uri(RIDES), role="training"),
        "zones": DataThing(path=bucket.uri("tables/zones"), role="reference"),
    }
    for thing in things.values():
        write_deltalake(thing.path, rows(1.0), partition_by=["zone"])
        DeltaTable(thing.path).alter.set_table_properties(KEPT, raise_if_not_exists=False)
    made: World = fake_world(tmp_path)
    made = replace(made, layers={**made.layers, "data": of(things, tmp_path)})
    promote(made, {})
    for thing in things.values():
        append(thing.path, rows(66.0))
    promote(made, {layer: {"main": "2"} for layer in made.layers if layer != "data"})
    return made


def test_a_system_goes_back_with_its_reference_table(
    world: World, bucket: Bucket, tmp_path: Path
) -> None:
    (bad, _), (good, _) = world.journal.releases(world.system)
    saga = carry_out(world, Order(Level.SYSTEM, by="tester"))
    assert saga.state is SagaState.COMPLETED, saga.why
    route = world.journal.route(world.system)
    assert route and route.release == good.id != bad.id
    stored = bucket.copy(tmp_path / "copy") / "tables"
    assert prices(stored / "zones") == [1.0] and properties(stored / "zones") == KEPT
    assert operations(stored / "zones")[3:] == [
        "SET TBLPROPERTIES",  # the fence
        "RESTORE",
        "SET TBLPROPERTIES",  # what the restore reverted
        "SET TBLPROPERTIES",  # the fence is down
    ]
    assert prices(stored / "rides") == [1.0, 66.0] and len(infos(stored / "rides")) == 3
    assert world.journal.fences(world.system) == [] and world.journal.verify() == []


def test_a_store_that_is_away_before_a_rollback_has_it_refused(
    world: World, bucket: Bucket
) -> None:
    there = bucket.content()
    with bucket.away():
        saga = carry_out(world, Order(Level.SYSTEM, by="tester"))
    assert saga.state is SagaState.REFUSED and "cannot be reached" in saga.why, saga.why
    assert bucket.content() == there and world.journal.fences(world.system) == []


def test_one_that_goes_away_in_the_cut_over_halts_it_and_is_recovered_from(
    world: World, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before(monkeypatch, "restore", bucket.leave)
    saga = carry_out(world, Order(Level.SYSTEM, by="tester"))
    assert saga.state is SagaState.NEEDS_HUMAN and "cannot be reached" in saga.why, saga.why
    bucket.come_back()
    with pytest.raises(Held, match=saga.id):
        append(bucket.uri("tables/zones"), rows(5.0), wait=0)
    (ended,) = finish(world, by="tester", saga=saga.id)
    assert ended.state is SagaState.TAKEN_BACK, ended.why
    stored = bucket.copy(tmp_path / "copy") / "tables/zones"
    assert prices(stored) == [1.0, 66.0] and properties(stored) == KEPT
    assert world.journal.fences(world.system) == [] and world.journal.verify() == []
