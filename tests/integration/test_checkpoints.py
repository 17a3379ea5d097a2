"""A table that is rolled back often stays quick to open, and loses no version by that."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta.leased import LeasedTables
from ebbtide.adapters.system.file import DataThing

SYSTEM = "shop"
DELETES_LOGS = {
    "delta.logRetentionDuration": "interval 0 days",
    "delta.enableExpiredLogCleanup": "true",
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two versions, of which any clean-up would delete the first."""
    place = tmp_path / "prices"
    write_deltalake(place, pa.table({"price": [1, 2]}), configuration=DELETES_LOGS)
    write_deltalake(place, pa.table({"price": [3]}), mode="append")
    return place


@pytest.fixture
def tables(table: Path, tmp_path: Path) -> LeasedTables:
    things = {"prices": DataThing(path=str(table), role="reference")}
    return LeasedTables(things, Path, tmp_path / "left")


def held_and_let_go(tables: LeasedTables, times: int) -> None:
    for n in range(times):
        tables.hold_writers("prices", SYSTEM, f"saga-{n}")
        tables.let_writers_go("prices", SYSTEM)


def pointer(table: Path) -> Path:
    return table / "_delta_log/_last_checkpoint"


def test_the_log_is_shortened_now_and_then_and_every_version_stays(
    table: Path, tables: LeasedTables
) -> None:
    before = tables.live("prices")
    held_and_let_go(tables, 3)
    assert not pointer(table).exists()
    held_and_let_go(tables, 22)
    newest = DeltaTable(table).version()
    checkpoints = sorted((table / "_delta_log").glob("*.checkpoint.parquet"))
    assert newest - json.loads(pointer(table).read_text())["version"] < 10
    assert len(checkpoints) == 5
    assert len(list((table / "_delta_log").glob("*.json"))) == newest + 1
    counts = [DeltaTable(table, version=n).to_pyarrow_dataset().count_rows() for n in (0, 1)]
    assert counts == [2, 3]
    assert before is not None
    assert tables.problems(before) == []
    now = tables.live("prices")
    assert now is not None
    assert now.digest == before.digest


def test_a_checkpoint_that_cannot_be_written_stops_nothing(
    table: Path, tables: LeasedTables, caplog: pytest.LogCaptureFixture
) -> None:
    (pointer(table) / "in-the-way").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        held_and_let_go(tables, 12)
    assert "no checkpoint of" in caplog.text
    assert tables.held_by("prices", SYSTEM) == ""
