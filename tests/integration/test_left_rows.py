"""Rows that a restore leaves behind: counted, kept from vacuum and clean-up, given back."""

import errno
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta.leased import LeasedTables
from ebbtide.adapters.system.file import DataThing
from ebbtide.core.errors import NotRestorable, Refused, Unknown, Unreachable
from ebbtide.core.saga import Level, SagaState
from ebbtide.writing import append
from tests.integration.test_tables import delete_by_vector
from tests.leased_tables import (  # noqa: F401 - fixtures
    Leased,
    built,
    leased,
    rows,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

SAGA = "ab12"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Version 0: one row; 1 to 3: three appends, of four rows in all."""
    path = tmp_path / "tables" / "rides"
    write_deltalake(path, rows(1.0), partition_by=["zone"])
    append(path, rows(2.0), by="ada")
    write_deltalake(path, rows(3.0, 4.0), mode="append")
    append(path, rows(5.0), by="ada")
    return path


@pytest.fixture
def tables(tmp_path: Path, place: Path) -> LeasedTables:
    things = {"rides": DataThing(path="tables/rides", role="training")}
    return LeasedTables(things, lambda path: tmp_path / path, tmp_path / "left")


def exported(tables: LeasedTables, to: Path) -> list[float]:
    tables.export_left("rides", SAGA, to)
    return sorted(pq.read_table(to)["price"].to_pylist())


def test_they_are_counted_with_their_writers_versions_and_times(
    tables: LeasedTables, place: Path
) -> None:
    left = tables.left_behind(tables.pin("rides", "3"), tables.pin("rides", "1"))
    assert (left.rows, left.rewritten, left.versions) == (3, 0, (2, 3))
    assert (left.version, left.target) == (3, 1)
    assert left.writers == ("delta-rs:py-1.6.6", "ada (delta-rs:py-1.6.6)")
    told = [
        json.loads((place / f"_delta_log/{n:020}.json").read_text().split("\n")[0]) for n in (2, 3)
    ]
    times = [each["commitInfo"]["timestamp"] / 1000 for each in told]
    assert [left.since, left.until] == times


def test_only_what_a_version_grew_from_counts(tables: LeasedTables, place: Path) -> None:
    DeltaTable(place).restore(1)
    append(place, rows(9.0))
    left = tables.left_behind(tables.pin("rides", "5"), tables.pin("rides", "0"))
    assert left.versions == (1, 5) and left.rows == 2, "2 and 3 had been left behind before"


def test_what_was_kept_outlives_vacuum_and_log_clean_up(
    tables: LeasedTables, place: Path, tmp_path: Path
) -> None:
    before, after = tables.pin("rides", "3"), tables.pin("rides", "1")
    tables.move("rides", after, only_from=[before], note=SAGA)
    left = tables.keep_left(before, after, SAGA)
    DeltaTable(place).vacuum(0, dry_run=False, enforce_retention_duration=False)
    DeltaTable(place).create_checkpoint()
    for n in range(4):
        (place / "_delta_log" / f"{n:020}.json").unlink()
    assert len(list(place.rglob("*.parquet"))) == 3, "two data files and the checkpoint"
    assert tables.keep_left(before, after, SAGA) == left, "kept is kept"
    assert exported(tables, tmp_path / "left.parquet") == [3.0, 4.0, 5.0]
    shown = pq.read_table(tmp_path / "left.parquet")
    assert shown["zone"].to_pylist() == ["a b"] * 3 and shown.column_names == ["price", "zone"]


def test_keeping_takes_no_room_where_files_can_be_linked(
    tables: LeasedTables, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tables.pin("rides", "3"), tables.pin("rides", "1")
    tables.keep_left(before, after, SAGA)
    linked = [file for file in place.rglob("*.parquet") if file.stat().st_nlink == 2]
    assert len(linked) == 2

    def no_links(*_: object) -> None:
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", no_links)
    tables.keep_left(before, after, "cd34")
    tables.export_left("rides", "cd34", tmp_path / "copied.parquet")
    assert sorted(pq.read_table(tmp_path / "copied.parquet")["price"].to_pylist()) == [
        3.0,
        4.0,
        5.0,
    ]


def test_a_full_disk_keeps_nothing_by_halves_and_says_where_the_rows_are(
    tables: LeasedTables, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(Unreachable, match="No space left") as fault:
        tables.keep_left(tables.pin("rides", "3"), tables.pin("rides", "1"), SAGA)
    assert "version 3 of the table" in fault.value.remedy
    assert list((tmp_path / "left" / SAGA).iterdir()) == []
    assert tables.kept_left("rides", SAGA) is None


def test_a_rewritten_table_says_how_much_may_be_there_still(
    tables: LeasedTables, place: Path
) -> None:
    DeltaTable(place).optimize.compact()
    left = tables.left_behind(tables.pin("rides", "4"), tables.pin("rides", "1"))
    assert (left.rows, left.rewritten) == (5, 2)
    assert left.versions == (2, 3), "a compaction writes no rows"


def test_rows_deleted_by_a_vector_are_left_behind_alone(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"price": [1.0, 2.0, 3.0]}))
    delete_by_vector(tmp_path / "t", row=1)
    things = {"t": DataThing(path="t", role="reference")}
    tables = LeasedTables(things, lambda path: tmp_path / path, tmp_path / "left")
    whole, less = tables.pin("t", "0"), tables.pin("t", "1")
    assert tables.keep_left(whole, less, SAGA).rows == 1
    assert tables.export_left("t", SAGA, tmp_path / "t.parquet") == 1
    assert pq.read_table(tmp_path / "t.parquet")["price"].to_pylist() == [2.0]
    assert tables.left_behind(less, whole).rows == 0


def test_types_and_nulls_of_partitions_and_newer_columns_are_kept(tmp_path: Path) -> None:
    days = [date(2026, 11, 1), None]
    old = pa.table({"n": pa.array([1, 2], pa.int32()), "day": days})
    write_deltalake(tmp_path / "t", old, partition_by=["day"])
    write_deltalake(tmp_path / "t", old, mode="append")
    wider = old.append_column("at", pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 2))
    write_deltalake(tmp_path / "t", wider, mode="append", schema_mode="merge")
    things = {"t": DataThing(path="t", role="reference")}
    tables = LeasedTables(things, lambda path: tmp_path / path, tmp_path / "left")
    tables.keep_left(tables.pin("t", "2"), tables.pin("t", "0"), SAGA)
    assert tables.export_left("t", SAGA, tmp_path / "t.parquet") == 4
    found = pq.read_table(tmp_path / "t.parquet")
    assert sorted(found["day"].to_pylist(), key=str) == [days[0], days[0], None, None]
    assert found.schema.field("n").type == pa.int32()
    assert found["at"].null_count == 2


def test_what_cannot_be_kept_or_given_back_is_said(
    tables: LeasedTables, place: Path, tmp_path: Path
) -> None:
    before, after = tables.pin("rides", "3"), tables.pin("rides", "1")
    with pytest.raises(Unknown, match="left no rows"):
        tables.export_left("rides", SAGA, tmp_path / "left.parquet")
    with pytest.raises(Unknown, match="no id of a saga"):
        tables.export_left("rides", "../../etc", tmp_path / "left.parquet")
    with pytest.raises(Unknown):
        tables.export_left("../rides", SAGA, tmp_path / "left.parquet")
    (newest,) = set(DeltaTable(place).file_uris()) - set(DeltaTable(place, version=2).file_uris())
    Path(newest).rename(tmp_path / "aside")
    with pytest.raises(NotRestorable, match="missing"):
        tables.keep_left(before, after, SAGA)
    assert tables.kept_left("rides", SAGA) is None, "whole, or not at all"
    (tmp_path / "aside").rename(newest)
    tables.keep_left(before, after, SAGA)
    exported(tables, tmp_path / "left.parquet")
    with pytest.raises(Refused, match="there already"):
        exported(tables, tmp_path / "left.parquet")
    next((tmp_path / "left" / SAGA / "rides").glob("0*.parquet")).unlink()
    with pytest.raises(NotRestorable, match="not whole"):
        exported(tables, tmp_path / "again.parquet")
    assert not (tmp_path / "again.parquet").exists()


def test_a_sagas_report_names_them_and_how_to_have_them(leased: Leased, tmp_path: Path) -> None:
    append(leased.at("rides"), rows(99.0), by="feed 7")
    versions = {"rides": "1", "zones": "1"}
    saga = leased.order(Level.DATA, tables=versions, safe=leased.bad.id)
    assert saga.state is SagaState.COMPLETED, saga.why
    step = next(
        each for each in leased.world.journal.steps(saga.id) if each.name == "left.keep_rows"
    )
    assert "rides: 3 rows of version 4 are left behind" in step.why
    assert "feed 7 (delta-rs:py-1.6.6)" in step.why and "as 2 versions, 2 to 3" in step.why
    assert f"ebbtide export-rows fake rides --saga {saga.id} --to rides.parquet" in step.why
    assert step.measured["rides"]["rows"] == 3 and step.measured["zones"]["rows"] == 2
    assert leased.tables.export_left("rides", saga.id, tmp_path / "r.parquet") == 3
    assert sorted(pq.read_table(tmp_path / "r.parquet")["price"].to_pylist()) == [66.0, 67.0, 99.0]


_EXPORT = """
import sys
from pathlib import Path
from ebbtide.adapters.delta.leased import LeasedTables
from ebbtide.adapters.system.file import DataThing
at = Path(sys.argv[1])
things = {"rides": DataThing(path="tables/rides", role="training")}
tables = LeasedTables(things, lambda path: at / path, at / "left")
tables.keep_left(tables.pin("rides", "3"), tables.pin("rides", "1"), sys.argv[2])
print(tables.export_left("rides", sys.argv[2], at / f"{sys.argv[2]}.parquet"))
"""


def test_a_process_that_exports_ends_well(
    tables: LeasedTables, place: Path, tmp_path: Path
) -> None:
    """delta-rs' own way to read a table into Arrow ends every second process with an abort."""
    for n in range(2):
        command = [sys.executable, "-c", _EXPORT, str(tmp_path), f"ee{n}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
