"""`ebbtide gc`: what is retained stays, what is given up goes, whoever dies in between."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta.leased import LeasedTables
from ebbtide.adapters.disk.files import publish_tree
from ebbtide.adapters.disk.keeping import KeptByDigest, remove, size
from ebbtide.core.checks import State
from ebbtide.core.errors import Conflict, NotRestorable, PlanChanged, SagaOpen
from ebbtide.core.giving_up import Cleared, give_up, propose
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.readiness import examine
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Pin, Release
from ebbtide.core.retention import (
    GivenUp,
    Rule,
)
from ebbtide.core.saga import Level, SagaState
from ebbtide.testing import FakeLayer
from flows.levels import STEPS
from flows.order import carry_out, plan
from tests.integration.journal_fixtures import same_imports
from tests.leased_tables import SYSTEM, TABLES, Leased, built, leased, prices, rows  # noqa: F401 - fixtures

# ruff: noqa: F811 - pytest's way to ask for a fixture

NOW_AND_THEN = Rule(within=0.0, cool_down=0.0)


class Kept(KeptByDigest, FakeLayer):
    """Settings that are kept as files are: what a real layer does with its folder."""

    def __init__(self, store: Path) -> None:
        super().__init__("config")
        self._store = store

    def prepare(self, pin: Pin) -> None:
        publish_tree(lambda folder: _write(folder, pin), self._store / pin.digest)

    def lost_outside(self, pin: Pin) -> list[str]:
        return self.problems(pin)


def _write(folder: Path, pin: Pin) -> None:
    (folder / "config.yaml").write_text(pin.digest)


@pytest.fixture
def keeping(leased: Leased) -> Leased:
    """With leases and kept settings, a rule that keeps nothing but the proved, and old releases."""
    return _keeping(leased)


def _keeping(leased: Leased) -> Leased:
    at = leased.folder
    tables = LeasedTables(TABLES, lambda path: at / path, at / "left", at / "delta")
    kept = Kept(at / "settings")
    kept.meddle("main", leased.bad.pin("config", "main"))
    world = replace(
        leased.world,
        layers={**leased.world.layers, "data": tables, "config": kept},
        policy=replace(leased.world.policy, retention=NOW_AND_THEN),
    )
    for release in (leased.good, leased.bad):
        record(world, release, by="tester")
    return replace(leased, world=world)


def a_third(system: Leased) -> Release:
    """Recorded and never promoted: with settings and versions of tables of its own."""
    write_deltalake(system.at("zones"), rows(3.0), mode="overwrite")
    third = resolve(system.world, {"config": {"main": "3"}})
    record(system.world, third, by="tester")
    write_deltalake(system.at("zones"), rows(4.0), mode="overwrite")
    return third


def run_gc(system: Leased) -> Cleared:
    return give_up(system.world, propose(system.world), by="tester", reason="room")


def places(system: Leased) -> set[str]:
    """Everything that is kept, hidden leftovers too: `<store>/<digest>`."""
    found = [*(system.folder / "settings").iterdir(), *(system.folder / "delta").glob("*/*")]
    return {f"{path.parent.name}/{path.name}" for path in found}


def of(release: Release) -> set[str]:
    config = {f"settings/{pin.digest}" for pin in release.pins("config")}
    return config | {f"{pin.name}/{pin.digest}" for pin in release.pins("data")}


def test_what_is_given_up_goes_and_what_others_share_stays(keeping: Leased) -> None:
    third = a_third(keeping)
    shared = of(third) & of(keeping.bad)
    assert shared and places(keeping) == of(keeping.good) | of(keeping.bad) | of(third)
    found = propose(keeping.world)
    (loss,) = found.losses
    assert loss.release == third.id and not loss.last
    assert {f"{p.parent.name}/{p.name}" for each in loss.places.values() for p in each} == of(
        third
    ) - shared
    assert set(found.kept) == {keeping.good.id, keeping.bad.id}
    tables = {path.name for path in keeping.at("zones").rglob("*")}

    done = run_gc(keeping)

    assert done.given_up == (third.id,) and len(done.deleted) == len(of(third) - shared)
    assert places(keeping) == of(keeping.good) | of(keeping.bad)
    assert {path.name for path in keeping.at("zones").rglob("*")} == tables, "the user's own"
    assert prices(keeping.at("zones")) == [4.0]
    told = keeping.world.journal.audit(SYSTEM)[0]
    assert (told.what, told.who, told.detail["releases"]) == (
        "releases given up",
        "tester",
        [third.id],
    )
    assert keeping.world.journal.verify() == []
    assert run_gc(keeping) == Cleared((), ())


def test_what_was_given_up_is_no_target_until_it_is_recorded_again(keeping: Leased) -> None:
    third = a_third(keeping)
    order = Order(Level.PROMOTION, by="tester", to=third.id)
    before = plan(keeping.world, order)
    run_gc(keeping)
    for level in (Level.PROMOTION, Level.SYSTEM, Level.FEATURES, Level.DATA, Level.MODEL):
        with pytest.raises(GivenUp, match="ebbtide gc"):
            plan(keeping.world, replace(order, level=level, accept_unproved=True))
    with pytest.raises(PlanChanged, match="given up"):
        keeping.world.journal.open_saga(before.plan, by="tester", reason="planned before")
    record(keeping.world, third, by="tester")
    assert keeping.world.journal.given_up(SYSTEM) == {} and places(keeping) >= of(third)
    assert carry_out(keeping.world, order).state is SagaState.COMPLETED
    assert keeping.world.journal.verify() == []


def test_nothing_is_given_up_during_a_saga_or_once_the_route_has_moved(keeping: Leased) -> None:
    third = a_third(keeping)
    found = propose(keeping.world)
    back = plan(keeping.world, Order(Level.SYSTEM, by="tester"))
    _, lease = keeping.world.journal.open_saga(back.plan, by="tester", reason="")
    for ask in (
        lambda: propose(keeping.world),
        lambda: give_up(keeping.world, found, by="tester"),
    ):
        with pytest.raises(SagaOpen):
            ask()
    keeping.world.journal.close_saga(lease, SagaState.REFUSED)
    carry_out(keeping.world, Order(Level.PROMOTION, by="tester", to=third.id))
    with pytest.raises(Conflict):
        give_up(keeping.world, found, by="tester")
    assert keeping.world.journal.given_up(SYSTEM) == {} and places(keeping) >= of(third)


def test_a_mark_that_was_made_by_hand_shows(keeping: Leased) -> None:
    a_third(keeping)
    run_gc(keeping)
    with keeping.world.journal._database.write() as connection:  # type: ignore[attr-defined]  # the adapter's own
        connection.exec_driver_sql("DELETE FROM given_up")
    assert "was given up was changed by hand" in keeping.world.journal.verify()[0]


def test_what_is_shown_or_needed_elsewhere_stays(keeping: Leased, tmp_path: Path) -> None:
    third = a_third(keeping)
    config = keeping.world.layers["config"]
    config.meddle("main", third.pin("config", "main"))  # type: ignore[attr-defined]  # a fake layer
    shown = f"settings/{third.pins('config')[0].digest}"
    other = Release("another", {"data": third.pins("data")})
    record(replace(keeping.world, system="another"), other, by="tester")
    assert propose(keeping.world).losses[0].places == {}
    assert run_gc(keeping).deleted == ()
    assert places(keeping) >= of(third) and shown in places(keeping)


def test_who_needs_it_at_the_last_moment_gets_it_back(tmp_path: Path) -> None:
    place = tmp_path / "store" / "d"
    for answers in ([True], [False, True]):
        place.mkdir(parents=True, exist_ok=True)
        (place / "file").write_text("kept")
        asked = iter(answers)
        assert not remove(place, partial(next, asked))
        assert (place / "file").read_text() == "kept" and len(list(place.parent.iterdir())) == 1
    assert size(place) == 4
    assert remove(place, lambda: False) and list(place.parent.iterdir()) == []
    assert not remove(place, lambda: False)


_RUN = """
import sys
from pathlib import Path
from ebbtide.core.giving_up import give_up, propose
from tests.integration.test_gc import _keeping
from tests.leased_tables import Leased, SYSTEM, _world
folder = Path(sys.argv[1])
world = _world(folder)
*_, (bad, _), (good, _) = world.journal.releases(SYSTEM)
system = _keeping(Leased(folder, world, good, bad))
give_up(system.world, propose(system.world), by="tester")
"""


@pytest.mark.parametrize(
    "point",
    [
        "journal/uncommitted",
        "giving_up/marked",
        "keeping.remove/nameless",
        "giving_up/one-deleted",
    ],
)
def test_a_run_that_is_killed_is_finished_by_the_next(keeping: Leased, point: str) -> None:
    third = a_third(keeping)
    env = {**same_imports(), "EBBTIDE_CRASH_AT": point}
    here = Path(__file__).parents[2]
    run = [sys.executable, "-c", _RUN, str(keeping.folder)]
    dead = subprocess.run(run, env=env, cwd=here, check=False)
    assert dead.returncode == -signal.SIGKILL
    assert places(keeping) >= of(keeping.good) | of(keeping.bad)
    assert keeping.world.journal.verify() == []
    run_gc(keeping)
    assert places(keeping) == of(keeping.good) | of(keeping.bad)
    assert list(keeping.world.journal.given_up(SYSTEM)) == [third.id]


def vacuumed(system: Leased) -> None:
    """Somebody's clean-up takes every file that the newest version does not need."""
    for table in TABLES:
        write_deltalake(system.at(table), rows(9.0), mode="overwrite")
        DeltaTable(system.at(table)).vacuum(0, dry_run=False, enforce_retention_duration=False)


def test_a_lease_outlives_a_hostile_vacuum(keeping: Leased) -> None:
    tables = keeping.world.layers["data"]
    assert isinstance(tables, LeasedTables)
    vacuumed(keeping)
    for pin in keeping.good.pins("data"):
        assert tables.lost_outside(pin) and tables.problems(pin) == []
        assert tables.read(pin).num_rows == 1, "by time travel, from the lease"
        with pytest.raises(NotRestorable):
            Leased.tables.fget(replace(keeping, world=_unleased(keeping))).read(pin)  # type: ignore[attr-defined]  # the property's own function
    asked = {pin.name: pin.at["version"] for pin in keeping.good.pins("data")}
    saga = carry_out(
        keeping.world, Order(Level.DATA, by="tester", tables=asked, safe=keeping.bad.id)
    )
    assert saga.state is SagaState.COMPLETED, saga.why
    for table in TABLES:
        assert prices(keeping.at(table)) == [1.0]


def test_a_rollback_gives_a_vacuumed_table_its_files_back(keeping: Leased) -> None:
    vacuumed(keeping)
    saga = carry_out(keeping.world, Order(Level.SYSTEM, by="tester"))
    assert saga.state is SagaState.COMPLETED, saga.why
    assert prices(keeping.at("zones")) == [1.0]
    assert DeltaTable(keeping.at("zones")).to_pyarrow_dataset().count_rows() == 1


def _unleased(system: Leased) -> World:
    at = system.folder
    tables = LeasedTables(TABLES, lambda path: at / path, at / "left")
    return replace(system.world, layers={**system.world.layers, "data": tables})


def test_a_lease_takes_no_room_and_leaves_the_table_as_it_was(keeping: Leased) -> None:
    (pin,) = [pin for pin in keeping.good.pins("data") if pin.name == "zones"]
    lease = keeping.folder / "delta" / "zones" / pin.digest
    data = list(lease.rglob("part-*.parquet"))
    assert data and all(path.stat().st_nlink > 1 for path in lease.rglob("*") if path.is_file())
    assert size(lease) == 0
    for path in data:
        assert os.access(keeping.at("zones") / path.relative_to(lease), os.W_OK)
    assert prices(lease) == [1.0], "a table of its own"
    vacuumed(keeping)
    (newest,) = keeping.bad.pins("data")[1:]
    assert size(keeping.folder / "delta" / "zones" / newest.digest) > 0


def test_doctor_finds_what_was_broken_outside(keeping: Leased) -> None:
    def wrong() -> dict[str, str]:
        checks = examine(keeping.world, STEPS, levels=(Level.SYSTEM,)).checks
        return {each.what: each.why for each in checks if each.state is State.WRONG}

    assert wrong() == {}
    config, zones = keeping.good.pins("config")[0], keeping.good.pin("data", "zones")
    assert zones
    shutil.rmtree(keeping.folder / "settings" / config.digest)
    shutil.rmtree(keeping.folder / "delta" / "zones" / zones.digest)
    found = wrong()
    assert len(found) == 2 and all(what.startswith("lease of ") for what in found)
    assert all("ebbtide gc" in why for why in found.values())
    done = run_gc(keeping)
    assert done.leased == (keeping.good.id,) and wrong() == {}

    vacuumed(keeping)
    found = wrong()
    assert "the last copy" in found[f"lease of data zones {zones} of {keeping.good.short}"]
    kept = next((keeping.folder / "delta" / "zones" / zones.digest).rglob("part-*.parquet"))
    kept.unlink()
    assert any(what.startswith("data zones") for what in wrong()), "now it is lost"
    assert run_gc(keeping).broken
