"""Delta tables as a layer, on real tables; the log is read as the JSON that it is."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta import tables as delta
from ebbtide.adapters.delta.tables import Tables
from ebbtide.adapters.system.file import DataThing
from ebbtide.core.errors import (
    Conflict,
    FloatingReference,
    NotRestorable,
    Refused,
    Unknown,
    Unreachable,
)
from ebbtide.core.release import Pin

KEPT = {
    "delta.logRetentionDuration": "interval 365 days",
    "delta.deletedFileRetentionDuration": "interval 99 days",
    "team": "pricing",
}


def rides(*prices: float) -> pa.Table:
    return pa.table({"zone": ["a b"] * len(prices), "price": list(prices)})


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Version 0: two rows; 1: a third; 2: the properties; 3: rewritten, with one more column."""
    path = tmp_path / "tables" / "rides"
    write_deltalake(path, rides(1.0, 2.0), partition_by=["zone"])
    write_deltalake(path, rides(3.0), mode="append")
    DeltaTable(path).alter.set_table_properties(KEPT, raise_if_not_exists=False)
    wider = rides(9.0).append_column("tip", pa.array([0.5]))
    write_deltalake(path, wider, mode="overwrite", schema_mode="overwrite", configuration=KEPT)
    return path


@pytest.fixture
def tables(tmp_path: Path, place: Path) -> Tables:
    thing = DataThing(path="tables/rides", role="reference")
    return Tables({"rides": thing}, lambda path: tmp_path / path)


def live(tables: Tables, name: str = "rides") -> Pin:
    found = tables.live(name)
    assert found
    return found


def commits(place: Path) -> list[list[dict[str, Any]]]:
    """Every commit of a table that has no checkpoint, oldest first."""
    files = sorted((place / "_delta_log").glob("*.json"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def shown(place: Path) -> dict[str, Any]:
    """Replay the log by hand: its files, schema, properties and rows."""
    files: set[str] = set()
    meta: dict[str, Any] = {}
    for commit in commits(place):
        files -= {action["remove"]["path"] for action in commit if "remove" in action}
        files |= {action["add"]["path"] for action in commit if "add" in action}
        meta = next((action["metaData"] for action in commit if "metaData" in action), meta)
    prices = [
        price
        for file in files
        for price in pq.ParquetFile(place / file.replace("%25", "%"))
        .read(["price"])["price"]
        .to_pylist()
    ]
    return {
        "files": files,
        "schema": meta["schemaString"],
        "properties": meta["configuration"],
        "prices": sorted(prices),
    }


def data_files(place: Path, version: int) -> list[Path]:
    return [Path(uri) for uri in DeltaTable(place, version=version).file_uris()]


def content(place: Path) -> dict[str, bytes]:
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }


def test_a_pin_tells_the_version_rows_and_role(tables: Tables) -> None:
    pin = tables.pin("rides", "1")
    assert (pin.at["version"], pin.at["rows"]) == ("1", "3")
    assert (pin.at["role"], pin.at["path"]) == ("reference", "tables/rides")
    assert tables.pin("rides").at["version"] == "3"
    assert tables.pin("rides", "0").at["schema"] != tables.pin("rides", "3").at["schema"]


def test_the_same_content_has_the_same_digest_under_another_version(
    tables: Tables,
) -> None:
    one, two, three = (tables.pin("rides", version) for version in ("1", "2", "3"))
    assert one.digest == two.digest != three.digest


def test_do_undo_do_undo_shows_the_same_rows_again(tables: Tables, place: Path) -> None:
    was, to = live(tables), tables.pin("rides", "0")
    before = shown(place)
    for note in ("first", "second"):
        tables.move("rides", to, only_from=[was], note=note)
        assert shown(place)["prices"] == [1.0, 2.0]
        assert live(tables).digest == to.digest
        tables.move("rides", was, only_from=[to, was], note=note)
        assert shown(place) == before
        assert live(tables).digest == was.digest


def test_the_history_names_the_saga(tables: Tables, place: Path) -> None:
    was = tables.live("rides")
    tables.move("rides", tables.pin("rides", "0"), only_from=[was], note="saga-7")
    infos = [
        action["commitInfo"]
        for commit in commits(place)[4:]
        for action in commit
        if "commitInfo" in action
    ]
    assert [info["operation"] for info in infos] == ["RESTORE", "SET TBLPROPERTIES"]
    assert {info["ebbtide.saga"] for info in infos} == {"saga-7"}


def test_table_properties_survive_a_restore_to_a_time_before_them(
    tables: Tables, place: Path
) -> None:
    tables.move("rides", tables.pin("rides", "0"), only_from=[tables.live("rides")], note="s")
    assert shown(place)["properties"] == KEPT


def test_a_restore_cut_off_before_its_properties_is_finished_by_the_next_move(
    tables: Tables, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, to = live(tables), tables.pin("rides", "0")

    def die(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(delta, "return_properties", die)
        with pytest.raises(KeyboardInterrupt):
            tables.move("rides", to, only_from=[was], note="s")
    assert shown(place)["properties"] == {}
    tables.move("rides", to, only_from=[was], note="s")
    assert shown(place)["properties"] == KEPT
    assert [c[0]["commitInfo"]["operation"] for c in commits(place)].count("RESTORE") == 1


def test_a_move_to_what_is_shown_commits_nothing(tables: Tables, place: Path) -> None:
    to = tables.pin("rides", "0")
    tables.move("rides", to, only_from=[tables.live("rides")], note="s")
    before = content(place)
    tables.move("rides", to, only_from=[], note="s")
    assert content(place) == before


def test_a_foreign_append_before_the_move_is_a_conflict_and_kept(
    tables: Tables, place: Path
) -> None:
    was, to = live(tables), tables.pin("rides", "0")
    write_deltalake(place, rides(77.0), mode="append", schema_mode="merge")
    before = content(place)
    with pytest.raises(Conflict, match=r"rides.*version 4"):
        tables.move("rides", to, only_from=[was], note="s")
    assert content(place) == before
    assert 77.0 in shown(place)["prices"]


def between_look_and_commit(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], times: int
) -> None:
    """Let somebody else act just before a restore commits."""
    commit, left = DeltaTable.restore, [times]

    def late(self: DeltaTable, *args: Any, **options: Any) -> Any:
        if left[0]:
            left[0] -= 1
            act()
        return commit(self, *args, **options)

    monkeypatch.setattr(DeltaTable, "restore", late)


def test_a_foreign_append_between_look_and_commit_is_a_conflict_and_kept(
    tables: Tables, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, to = live(tables), tables.pin("rides", "0")
    between_look_and_commit(
        monkeypatch,
        lambda: write_deltalake(place, rides(77.0), mode="append", schema_mode="merge"),
        1,
    )
    with pytest.raises(Conflict, match="somebody else"):
        tables.move("rides", to, only_from=[was], note="s")
    assert shown(place)["prices"] == [9.0, 77.0]


def test_a_foreign_commit_that_changes_no_content_does_not_hinder(
    tables: Tables, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, to = live(tables), tables.pin("rides", "0")
    between_look_and_commit(
        monkeypatch,
        lambda: DeltaTable(place).alter.set_table_properties(
            {"team": "new"}, raise_if_not_exists=False
        ),
        1,
    )
    tables.move("rides", to, only_from=[was], note="s")
    assert shown(place)["prices"] == [1.0, 2.0]
    assert shown(place)["properties"]["team"] == "new"


def test_a_table_that_is_always_written_to_ends_as_a_conflict(
    tables: Tables, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was, to = live(tables), tables.pin("rides", "0")
    between_look_and_commit(
        monkeypatch,
        lambda: DeltaTable(place).alter.set_table_properties(
            {"team": "new"}, raise_if_not_exists=False
        ),
        99,
    )
    with pytest.raises(Conflict, match="times in a row"):
        tables.move("rides", to, only_from=[was], note="s")
    assert shown(place)["prices"] == [9.0]


def test_a_vacuumed_version_is_reported_and_a_move_to_it_touches_nothing(
    tables: Tables, place: Path
) -> None:
    was, to = live(tables), tables.pin("rides", "0")
    gone = data_files(place, 0)[0].name
    DeltaTable(place).vacuum(0, dry_run=False, enforce_retention_duration=False)
    before = content(place)
    assert any(gone in problem and "version 0" in problem for problem in tables.problems(to))
    with pytest.raises(NotRestorable, match=gone):
        tables.move("rides", to, only_from=[was], note="s")
    assert content(place) == before
    assert tables.problems(was) == []


def test_a_file_missing_from_both_versions_is_noticed_before_a_restore(
    tables: Tables, place: Path
) -> None:
    was, to = tables.pin("rides", "1"), tables.pin("rides", "0")
    DeltaTable(place).restore(1)
    data_files(place, 0)[0].unlink()
    with pytest.raises(NotRestorable, match="missing"):
        tables.move("rides", to, only_from=[was], note="s")


def test_a_cut_short_file_is_a_problem(tables: Tables, place: Path) -> None:
    pin = tables.pin("rides", "0")
    file = data_files(place, 0)[0]
    os.truncate(file, 10)
    assert [problem for problem in tables.problems(pin) if "10 bytes" in problem]


def test_a_cleaned_log_is_a_problem(tables: Tables, place: Path) -> None:
    was, to = live(tables), tables.pin("rides", "0")
    DeltaTable(place).create_checkpoint()
    for n in (0, 1):
        (place / "_delta_log" / f"{n:020}.json").unlink()
    assert "gone from the table's log" in tables.problems(to)[0]
    with pytest.raises(NotRestorable, match="version 0"):
        tables.move("rides", to, only_from=[was], note="s")


def test_a_table_made_anew_is_not_what_was_pinned(tables: Tables, place: Path) -> None:
    pin = tables.pin("rides", "0")
    shutil.rmtree(place)
    write_deltalake(place, rides(1.0, 2.0), partition_by=["zone"])
    assert "not what was pinned" in tables.problems(pin)[0]


def test_a_missing_table_is_a_problem_and_shows_nothing(tables: Tables, place: Path) -> None:
    pin = tables.pin("rides", "0")
    shutil.rmtree(place)
    assert "no Delta table" in tables.problems(pin)[0]
    assert tables.live("rides") is None
    with pytest.raises(Unknown):
        tables.move("rides", pin, only_from=[None], note="s")
    tables.move("rides", None, only_from=[], note="s")


def test_a_table_is_never_dropped(tables: Tables, place: Path) -> None:
    before = content(place)
    with pytest.raises(Refused, match="never dropped"):
        tables.move("rides", None, only_from=[tables.live("rides")], note="s")
    assert content(place) == before


@pytest.mark.parametrize(
    "ask",
    [
        "latest",
        "-1",
        "2026-01-01",
        "2026-01-01T00:00:00Z",
        "HEAD",
        "1.0",
        " 1",
        "٣",
        "9" * 30,
    ],
)
def test_only_a_version_number_is_a_pin(tables: Tables, ask: str) -> None:
    with pytest.raises(FloatingReference, match="newest version is 3"):
        tables.pin("rides", ask)


@pytest.mark.parametrize("ask", ["4", str(2**63 - 1)])
def test_a_version_that_was_never_written_is_unknown(tables: Tables, ask: str) -> None:
    with pytest.raises(Unknown, match="newest version is 3"):
        tables.pin("rides", ask)


def test_a_name_or_a_folder_without_a_table_is_unknown(tmp_path: Path, tables: Tables) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").write_text("no table")
    with pytest.raises(Unknown, match="There are: rides"):
        tables.pin("drivers")
    for path in ("plain", "file", "nowhere", "zzz://nowhere/t"):
        thing = DataThing(path=path, role="training")
        with pytest.raises(Unknown, match=path):
            Tables({"t": thing}, lambda path: tmp_path / path).pin("t")


def test_a_version_is_not_looked_for_where_there_is_no_table(tmp_path: Path) -> None:
    thing = DataThing(path="nowhere", role="training")
    layer, newest = Tables({"t": thing}, lambda path: tmp_path / path), str(2**63 - 1)
    with pytest.raises(Unknown, match="nowhere"):
        layer.pin("t", newest)
    assert layer.problems(Pin("t", "0" * 64, {"version": newest}))


def test_a_store_that_is_away_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    tables = Tables({"t": DataThing(path="s3://bucket/t", role="training")}, Path)
    with pytest.raises(Unreachable, match="s3://bucket/t"):
        tables.live("t")


def test_the_rows_of_a_version_are_read_by_time_travel(tables: Tables, place: Path) -> None:
    found = tables.read(tables.pin("rides", "1"))
    assert sorted(found["price"].to_pylist()) == [1.0, 2.0, 3.0]
    assert found.schema.field("zone").type == pa.string()
    assert found["zone"].to_pylist() == ["a b"] * 3
    data_files(place, 0)[0].unlink()
    with pytest.raises(NotRestorable, match="missing"):
        tables.read(Pin("rides", tables.pin("rides", "1").digest, {"version": "1"}))


def test_rows_deleted_by_a_vector_count_as_content(tmp_path: Path) -> None:
    place = tmp_path / "t"
    write_deltalake(place, pa.table({"price": [1.0, 2.0, 3.0]}))
    delete_by_vector(place, row=1)
    tables = Tables({"t": DataThing(path="t", role="reference")}, lambda path: tmp_path / path)
    whole, less = tables.pin("t", "0"), tables.pin("t", "1")
    assert (whole.at["rows"], less.at["rows"]) == ("3", "2")
    assert whole.digest != less.digest
    tables.move("t", whole, only_from=[less], note="s")
    assert tables.read(live(tables, "t"))["price"].to_pylist() == [1.0, 2.0, 3.0]
    tables.move("t", less, only_from=[whole], note="s")
    assert live(tables, "t").digest == less.digest


def delete_by_vector(place: Path, row: int) -> None:
    """Commit an inline deletion vector by hand, as Spark writes it: delta-rs writes none."""
    add = next(action["add"] for action in commits(place)[0] if "add" in action)
    bitmap = struct.pack("<IIHHIH", 12346, 1, 0, 0, 16, row)
    raw = struct.pack("<IQI", 1681511377, 1, 0) + bitmap
    vector = {
        "storageType": "i",
        "pathOrInlineDv": z85(raw),
        "sizeInBytes": len(raw),
        "cardinality": 1,
    }
    named = ["deletionVectors"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7}
    actions = [
        {"protocol": protocol | {"readerFeatures": named, "writerFeatures": named}},
        {"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}},
        {"add": {**add, "deletionVector": vector}},
    ]
    log = place / "_delta_log" / f"{1:020}.json"
    log.write_text("\n".join(json.dumps(action) for action in actions))


def z85(raw: bytes) -> str:
    letters = (
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    )
    padded = raw + bytes(-len(raw) % 4)
    words = [int.from_bytes(padded[at : at + 4], "big") for at in range(0, len(padded), 4)]
    return "".join(letters[word // 85**place % 85] for word in words for place in range(4, -1, -1))
