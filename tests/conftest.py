"""Systems for tests: one in memory, and the reference system on real stores."""

import gc
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ebbtide.core.journal import Journal
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Saga
from ebbtide.testing import FakeWorld, fake_world
from flows.order import carry_out
from tests.memory import folder_in_memory
from tests.once import shared_by_workers
from tests.ride_pricing import Built, Running, built_once, running

_LONGEST = (
    "acceptance/test_foreign_system.py",
    "acceptance/test_incidents.py",
    "crash/test_killed.py",
    "integration/test_prefect.py",
    "acceptance/test_small_systems.py",
    "contract/test_steps_on_real_stores.py",
    "integration/test_models.py",
    "integration/test_gateway_workers.py",
    "integration/test_gateway.py",
    "crash/",
    "acceptance/",
    "contract/",
    "integration/",
)
"""What begins first, so that no worker is left alone with a long file at the end."""


def pytest_configure() -> None:
    """Have pytest put `tmp_path` and its like into memory, and Python look for garbage rarely.

    The libraries are a million objects: to look through them again and again is a tenth of a run.
    """
    gc.set_threshold(20_000, 20, 50)
    if memory := folder_in_memory():
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file is not torn apart: its tests keep their order."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        path = str(item.path.relative_to(here))
        return next((n for n, part in enumerate(_LONGEST) if path.startswith(part)), len(_LONGEST))

    items.sort(key=rank)


@dataclass(frozen=True)
class Fakes:
    """A fake world with what its tests speak of."""

    world: FakeWorld
    good: Release
    bad: Release

    def order(self, level: Level = Level.SYSTEM, **wishes: Any) -> Order:
        return replace(Order(level=level, by="tester"), **wishes)

    def promote(self, release: Release) -> Saga:
        return carry_out(self.world, self.order(Level.PROMOTION, to=release.id))

    def live(self) -> str:
        route = self.world.journal.route(self.world.system)
        return route.release if route else ""

    def expire(self) -> None:
        """Let the lease of an open saga run out, as 15 silent seconds would."""
        path = self.world.journal._database.url.database  # type: ignore[attr-defined]  # the adapter's own
        with closing(sqlite3.connect(path)) as journal, journal:
            journal.execute("UPDATE sagas SET lease_until = 1 WHERE state = 'open'")


@pytest.fixture
def make_fakes(tmp_path: Path) -> Callable[..., Fakes]:
    def make(**options: Any) -> Fakes:
        return _recorded(fake_world(tmp_path, **options))

    return make


@pytest.fixture(scope="session")
def promoted_journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return promoted_in(tmp_path_factory.mktemp("promoted"))


def promoted_in(folder: Path, prepare: Callable[[FakeWorld], None] = lambda _: None) -> Path:
    """The journal of a system whose good release was promoted, then the bad one."""
    world = fake_world(folder)
    prepare(world)
    made = _recorded(world)
    assert made.promote(made.good).state == "completed"
    assert made.promote(made.bad).state == "completed"
    world.journal.close()
    return folder / "journal.db"


@pytest.fixture
def fakes(promoted_journal: Path, tmp_path: Path) -> Fakes:
    """The good release was promoted, then the bad one: a copy of what that left behind."""
    return fakes_in(tmp_path, promoted_journal)


def fakes_in(
    folder: Path,
    promoted_journal: Path,
    prepare: Callable[[FakeWorld], None] = lambda _: None,
    journal: Journal | None = None,
) -> Fakes:
    """A system in memory of its own, as the promotions left it; `prepare` as they had it.

    `journal`: one that was open in that folder, and is to be used again.
    """
    shutil.copy(promoted_journal, folder)
    world = fake_world(folder, journal=journal)
    prepare(world)
    good, bad = _releases(world)
    for layer, adapter in world.layers.items():
        adapter.meddle("main", bad.pin(layer, "main"))
    route = world.journal.route(world.system)
    assert route
    world.cache.start_epoch(route.token)
    return Fakes(world, good, bad)


@contextmanager
def one_after_another(
    folder: Path, promoted_journal: Path, prepare: Callable[[FakeWorld], None] = lambda _: None
) -> Iterator[Callable[[], Fakes]]:
    """Systems of their own, as many as are asked for; each takes the place of the one before.

    Their journals share a database engine: a new one would compile all its statements anew.
    """
    used: Journal | None = None

    def make() -> Fakes:
        nonlocal used
        if used is not None:
            used.close()
            for file in folder.glob(f"{promoted_journal.name}*"):
                file.unlink()
        made = fakes_in(folder, promoted_journal, prepare, used)
        used = made.world.journal
        return made

    yield make
    if used is not None:
        used.close()


def _recorded(world: FakeWorld) -> Fakes:
    good, bad = _releases(world)
    for release in (good, bad):
        record(world, release, by="tester")
    return Fakes(world, good, bad)


def _releases(world: World) -> tuple[Release, Release]:
    return resolve(world, {}), resolve(world, {layer: {"main": "2"} for layer in world.layers})


@pytest.fixture(scope="session")
def built_once_for_all(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The reference system with its three versions: it takes half a minute.

    Built once, whatever the number of pytest's workers; to be copied, never changed.
    """
    return built_once(shared_by_workers(tmp_path_factory) / "ride-pricing")


@pytest.fixture
def built(built_once_for_all: Built, tmp_path: Path) -> Built:
    """A copy of it for one test."""
    return built_once_for_all.copy(tmp_path / "workspace")


@pytest.fixture
def pricing(built: Built, tmp_path: Path) -> Iterator[Running]:
    """A production of one test's own: v1, v2 and the bad v3 were promoted in turn."""
    own = tmp_path / "production"
    own.mkdir()
    shutil.copy(built.promoted, own / "journal.db")
    with running(built, own) as system:
        system.start_gateway("v3", "v2")
        yield system
