"""Tables in an object store, over S3's own protocol; the bucket is read by plain HTTP."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta.leased import LeasedTables
from ebbtide.adapters.system.file import DataThing
from ebbtide.core.errors import Conflict, Held, NotRestorable, Refused, Unknown, Unreachable
from ebbtide.writing import append
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
from tests.integration.test_tables import delete_by_vector
from tests.leased_tables import KEPT, actions, infos, prices, rows

# ruff: noqa: F811 - pytest's way to ask for a fixture


def data_files(bucket: Bucket) -> list[str]:
    return [key for key in bucket.keys(RIDES) if "_delta_log" not in key]


def first_file(bucket: Bucket, stored: Stored) -> str:
    """The key of the data file of version 0, as the store has it."""
    add = next(action["add"] for action in actions(stored()) if "add" in action)
    (key,) = (key for key in data_files(bucket) if add["path"].endswith(Path(key).name))
    return key


def test_a_version_is_pinned_and_read_by_time_travel(tables: LeasedTables) -> None:
    pin, shown = tables.pin("rides", "1"), live(tables)
    assert (pin.at["version"], pin.at["rows"], shown.at["version"]) == ("1", "2", "3")
    assert tables.pin("rides", "2").digest == pin.digest != shown.digest
    assert sorted(tables.read(pin)["price"].to_pylist()) == [1.0, 2.0]
    assert tables.problems(pin) == tables.problems(shown) == []
    assert tables.path(pin) == shown.at["path"]


def test_there_and_back_and_there_shows_the_same_rows_and_properties(
    tables: LeasedTables, stored: Stored
) -> None:
    was, to = live(tables), tables.pin("rides", "1")
    for _ in range(2):
        tables.move("rides", to, only_from=[was], note=SAGA)
        assert prices(stored()) == [1.0, 2.0] and properties(stored()) == KEPT
        assert tables.is_moved("rides", was, SAGA)
        tables.move("rides", was, only_from=[to], note=f"{SAGA}/undo")
        assert prices(stored()) == [1.0, 2.0, 66.0, 67.0] and properties(stored()) == KEPT
    assert operations(stored())[4:6] == ["RESTORE", "SET TBLPROPERTIES"]
    assert {info["ebbtide.saga"] for info in infos(stored())[4:]} == {SAGA, f"{SAGA}/undo"}


def test_a_move_to_what_is_shown_commits_nothing(tables: LeasedTables, bucket: Bucket) -> None:
    there = bucket.content()
    tables.move("rides", live(tables), only_from=[], note=SAGA)
    assert bucket.content() == there


def test_a_lost_or_cut_file_is_a_problem_that_stops_a_move(
    tables: LeasedTables, bucket: Bucket, stored: Stored
) -> None:
    was, to = live(tables), tables.pin("rides", "0")
    tables.prepare(to)
    file = first_file(bucket, stored)
    bucket.put(file, b"cut short")
    assert [problem for problem in tables.problems(to) if "has 9 bytes" in problem]
    bucket.delete(file)
    there = bucket.content()
    (problem,) = tables.problems(to)
    assert "version 0" in problem and "missing" in problem and Path(file).name in problem
    assert tables.lost_outside(to) == [problem]
    for refused in (
        lambda: tables.move("rides", to, only_from=[was], note=SAGA),
        lambda: tables.prepare(to),
        lambda: tables.read(to),
    ):
        with pytest.raises(NotRestorable, match="missing"):
            refused()
    assert bucket.content() == there


def test_every_lost_file_of_many_is_told(tables: LeasedTables, bucket: Bucket) -> None:
    days = pa.table({"price": [1.0] * 40, "zone": [f"zone {n}" for n in range(40)]})
    write_deltalake(bucket.uri(RIDES), days, mode="append")
    pin, lost = live(tables), sorted(data_files(bucket))[::4]
    for key in lost:
        bucket.delete(key)
    problems = tables.problems(pin)
    assert len(problems) == len(lost) > 10
    assert all(any(Path(key).name in problem for problem in problems) for key in lost)


def test_a_cleaned_log_is_a_problem(tables: LeasedTables, bucket: Bucket) -> None:
    to = tables.pin("rides", "0")
    DeltaTable(bucket.uri(RIDES)).create_checkpoint()
    for n in (0, 1):
        bucket.delete(f"{LOG}/{n:020}.json")
    assert "gone from the table's log" in tables.problems(to)[0]


def test_a_foreign_commit_is_a_conflict_and_is_kept(
    tables: LeasedTables, uri: str, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, to = live(tables), tables.pin("rides", "1")
    before(monkeypatch, "restore", lambda: append(uri, rows(5.0), by="feed 7"))
    with pytest.raises(Conflict, match=r"changed by somebody else.*feed 7"):
        tables.move("rides", to, only_from=[was], note=SAGA)
    with pytest.raises(Conflict, match="version 4"):
        tables.move("rides", to, only_from=[was], note=SAGA)
    assert prices(stored()) == [1.0, 2.0, 5.0, 66.0, 67.0]
    assert "RESTORE" not in operations(stored())


def test_a_fence_holds_appends_back_until_it_is_let_go(
    tables: LeasedTables, uri: str, stored: Stored
) -> None:
    tables.hold_writers("rides", SYSTEM, SAGA)
    assert tables.held_by("rides", SYSTEM) == SAGA
    assert properties(stored()) == {**KEPT, f"ebbtide.fence.{SYSTEM}": SAGA}
    with pytest.raises(Held, match=f"saga {SAGA} of {SYSTEM}"):
        append(uri, rows(5.0), wait=0)
    tables.move("rides", tables.pin("rides", "1"), only_from=[live(tables)], note=SAGA)
    with pytest.raises(Held):
        append(uri, rows(5.0), wait=0)
    tables.let_writers_go("rides", SYSTEM)
    assert tables.held_by("rides", SYSTEM) == "" and properties(stored()) == KEPT
    append(uri, rows(5.0), wait=0)
    assert prices(stored()) == [1.0, 2.0, 5.0]


def test_a_fence_between_the_look_and_the_commit_rejects_the_append(
    tables: LeasedTables, uri: str, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = [lambda: tables.hold_writers("rides", SYSTEM, SAGA)]

    def write(*args: Any, **options: Any) -> None:
        if late:
            late.pop()()
        write_deltalake(*args, **options)

    monkeypatch.setattr("deltalake.write_deltalake", write)
    with pytest.raises(Held):
        append(uri, rows(5.0), wait=0)
    assert 5.0 not in prices(stored())


def test_rows_left_behind_are_kept_on_this_disk_and_outlive_the_bucket(
    tables: LeasedTables, uri: str, bucket: Bucket, tmp_path: Path
) -> None:
    odd = ["ü", "x/y", "50%", "q?&#", "a:b"]
    write_deltalake(uri, pa.table({"price": [5.0] * 5, "zone": odd}), mode="append")
    was, to = live(tables), tables.pin("rides", "1")
    left = tables.keep_left(was, to, SAGA)
    assert (left.rows, left.rewritten, left.versions) == (7, 0, (3, 4))
    assert left == tables.left_behind(was, to) == tables.kept_left("rides", SAGA)
    for key in data_files(bucket):
        bucket.delete(key)
    assert tables.export_left("rides", SAGA, tmp_path / "rides.parquet") == 7
    found = pq.read_table(tmp_path / "rides.parquet")
    assert sorted(found["price"].to_pylist()) == [5.0] * 5 + [66.0, 67.0]
    assert set(found["zone"].to_pylist()) == {"a b", *odd}


def test_rows_deleted_by_a_vector_count_and_are_left_behind_alone(
    bucket: Bucket, tmp_path: Path
) -> None:
    write_deltalake(bucket.uri(RIDES), pa.table({"price": [1.0, 2.0, 3.0]}))
    here = bucket.copy(tmp_path / "here") / RIDES
    delete_by_vector(here, row=1)
    bucket.put(f"{LOG}/{1:020}.json", (here / "_delta_log" / f"{1:020}.json").read_bytes())
    tables = of({"rides": DataThing(path=bucket.uri(RIDES), role="reference")}, tmp_path)
    whole, less = tables.pin("rides", "0"), tables.pin("rides", "1")
    assert (whole.at["rows"], less.at["rows"]) == ("3", "2") and whole.digest != less.digest
    assert tables.keep_left(whole, less, SAGA).rows == 1
    assert tables.export_left("rides", SAGA, tmp_path / "left.parquet") == 1
    assert pq.read_table(tmp_path / "left.parquet")["price"].to_pylist() == [2.0]


def test_the_log_is_shortened_and_every_version_stays(
    tables: LeasedTables, bucket: Bucket, uri: str
) -> None:
    was = live(tables)
    for n in range(10):
        tables.hold_writers("rides", SYSTEM, f"saga{n}")
        tables.let_writers_go("rides", SYSTEM)
    kept = bucket.keys(LOG)
    assert [key for key in kept if key.endswith(".checkpoint.parquet")]
    assert f"{LOG}/_last_checkpoint" in kept
    entries = [key for key in kept if key.endswith(".json")]
    assert len(entries) == DeltaTable(uri).version() + 1 == 24
    assert live(tables).digest == was.digest and tables.problems(was) == []
    assert sorted(tables.read(tables.pin("rides", "0"))["price"].to_pylist()) == [1.0]


def test_no_lease_is_kept_and_none_is_missed(
    tables: LeasedTables, bucket: Bucket, tmp_path: Path
) -> None:
    pin, there = tables.pin("rides", "1"), bucket.content()
    tables.prepare(pin)
    assert tables.kept_faults(pin) == []
    place = tables.kept_at(pin)
    assert place is not None and not place.exists()
    assert not tables.drop(pin, lambda: False)
    assert not (tmp_path / "leases").exists() and bucket.content() == there


def test_a_date_is_the_version_that_was_newest_then(tables: LeasedTables, stored: Stored) -> None:
    told = [info["timestamp"] / 1000 for info in infos(stored())]
    found = tables.dated("rides", told[-1])
    assert (found.version, found.committed) == (3, told[-1])
    assert tables.dated("rides", told[0]).version == sum(time <= told[0] for time in told) - 1
    with pytest.raises(Refused, match="before the first commit"):
        tables.dated("rides", told[0] - 1)


def test_what_is_not_there_is_told_from_what_cannot_be_reached(
    bucket: Bucket, tmp_path: Path
) -> None:
    nowhere = DataThing(path=bucket.uri("tables/nowhere"), role="training")
    lost = DataThing(path=f"s3://no-{bucket.name}/t", role="training")
    tables = of({"nowhere": nowhere, "lost": lost}, tmp_path)
    assert tables.live("nowhere") is None
    with pytest.raises(Unknown, match="holds no Delta table"):
        tables.pin("nowhere")
    with pytest.raises(Unreachable, match=r"NoSuchBucket.*correct its address"):
        tables.live("lost")
