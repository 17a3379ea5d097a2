"""A system in memory but for its two tables, which are real: `rides` trains, `zones` is served."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta.leased import LeasedTables
from ebbtide.adapters.system.file import DataThing
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Saga, SagaState
from ebbtide.testing import FakeLayer, fake_world
from flows.order import carry_out

SYSTEM = "fake"
TABLES = {
    "rides": DataThing(path="tables/rides", role="training"),
    "zones": DataThing(path="tables/zones", role="reference"),
}
KEPT = {"delta.deletedFileRetentionDuration": "interval 99 days", "team": "pricing"}


def rows(*prices: float) -> pa.Table:
    return pa.table({"price": list(prices), "zone": ["a b"] * len(prices)})


@dataclass(frozen=True)
class Leased:
    """The good release was promoted with versions 1 of both tables, the bad one with versions 2."""

    folder: Path
    world: World
    good: Release
    bad: Release

    @property
    def tables(self) -> LeasedTables:
        adapter = self.world.layers["data"]
        assert isinstance(adapter, LeasedTables)
        return adapter

    def at(self, table: str) -> Path:
        return self.folder / "tables" / table

    def order(self, level: Level, **wishes: Any) -> Saga:
        return carry_out(self.world, Order(level, by="tester", **wishes))

    def prices(self, table: str) -> list[float]:
        return prices(self.at(table))

    def properties(self, table: str) -> Mapping[str, str]:
        """As the log has them, replayed by hand; those of fences left out."""
        found: Mapping[str, str] = {}
        for action in actions(self.at(table)):
            found = action["metaData"]["configuration"] if "metaData" in action else found
        return {name: value for name, value in found.items() if "fence" not in name}

    def fences(self, table: str) -> list[str]:
        """The values of the fences that the table's own log shows."""
        found: Mapping[str, str] = {}
        for action in actions(self.at(table)):
            found = action["metaData"]["configuration"] if "metaData" in action else found
        return [value for name, value in found.items() if "fence" in name and value]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, to be copied: nothing in it knows where it lies."""
    folder = tmp_path_factory.mktemp("leased")
    _build(folder)
    return folder


@pytest.fixture
def leased(built: Path, tmp_path: Path) -> Leased:
    """A copy of it for one test."""
    folder = tmp_path / "system"
    shutil.copytree(built, folder)
    world = _world(folder)
    (bad, _), (good, _) = world.journal.releases(SYSTEM)
    for layer, adapter in world.layers.items():
        if isinstance(adapter, FakeLayer):
            adapter.meddle("main", bad.pin(layer, "main"))
    route = world.journal.route(SYSTEM)
    assert route and route.release == bad.id
    world.cache.start_epoch(route.token)
    return Leased(folder, world, good, bad)


def _build(folder: Path) -> None:
    for table in TABLES:
        path = folder / "tables" / table
        write_deltalake(path, rows(1.0), partition_by=["zone"])
        DeltaTable(path).alter.set_table_properties(KEPT, raise_if_not_exists=False)
    world = _world(folder)
    promote(world, {})
    for table in TABLES:
        write_deltalake(folder / "tables" / table, rows(66.0, 67.0), mode="append")
    promote(world, {layer: {"main": "2"} for layer in world.layers if layer != "data"})
    world.journal.close()


def _world(folder: Path) -> World:
    world: World = fake_world(folder)
    tables = LeasedTables(TABLES, lambda path: folder / path, folder / "left")
    return replace(world, layers={**world.layers, "data": tables})


def actions(place: Path) -> list[dict[str, Any]]:
    """Every action of a table's log that has no checkpoint, oldest first."""
    files = sorted((place / "_delta_log").glob("*.json"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def infos(place: Path) -> list[dict[str, Any]]:
    return [action["commitInfo"] for action in actions(place) if "commitInfo" in action]


def prices(place: Path) -> list[float]:
    """What readers see, from the log and the files, without delta-rs."""
    files: set[str] = set()
    for action in actions(place):
        files |= {action["add"]["path"]} if "add" in action else set()
        files -= {action["remove"]["path"]} if "remove" in action else set()
    return sorted(
        price
        for file in files
        for price in pq.ParquetFile(place / file.replace("%25", "%"))
        .read(["price"])["price"]
        .to_pylist()
    )


def promote(world: World, asks: Mapping[str, Mapping[str, str]]) -> None:
    release = resolve(world, asks)
    record(world, release, by="tester")
    saga = carry_out(world, Order(Level.PROMOTION, by="tester", to=release.id))
    assert saga.state is SagaState.COMPLETED, saga.why
