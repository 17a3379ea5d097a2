"""The writer helper on real tables, in real processes: held back, idempotent, in order."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta import fences, versions
from ebbtide.core.errors import Held, Refused, Unknown, Unreachable
from ebbtide.core.release import Pin
from ebbtide.writing import append, table_of
from tests.integration.journal_fixtures import run_together, same_imports
from tests.leased_tables import actions, infos, prices, rows


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "rides"
    write_deltalake(path, rows(1.0), partition_by=["zone"])
    return path


def hold(place: Path, saga: str = "s1") -> None:
    fences.hold(DeltaTable(place), "rides", "shop", saga)


def let_go(place: Path) -> None:
    fences.let_go(DeltaTable(place), "rides", "shop")


def just_before_the_commit(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Let something happen, once, when a writer has opened the table and not committed."""
    left = [act]

    def late(*args: Any, **options: Any) -> None:
        if left:
            left.pop()()
        write_deltalake(*args, **options)

    monkeypatch.setattr("deltalake.write_deltalake", late)


def test_an_append_is_the_version_that_it_says_and_names_its_writer(place: Path) -> None:
    version = append(place, pd.DataFrame({"zone": ["c"], "price": [2.0]}), by="nightly job")
    assert version == 1 and prices(place) == [1.0, 2.0]
    assert infos(place)[1]["ebbtide.writer"] == "nightly job"


def test_while_the_fence_is_up_nothing_is_appended(place: Path) -> None:
    hold(place)
    before = actions(place)
    with pytest.raises(Held, match="saga s1 of shop") as held:
        append(place, rows(2.0), wait=0)
    assert "Nothing was appended" in held.value.remedy and Held.exit_code == 11
    assert actions(place) == before
    let_go(place)
    append(place, rows(2.0), wait=0)
    assert prices(place) == [1.0, 2.0]


def test_a_writer_waits_for_the_fence(place: Path) -> None:
    hold(place)
    versions: list[int] = []
    writer = threading.Thread(target=lambda: versions.append(append(place, rows(2.0), wait=60)))
    writer.start()
    let_go(place)
    writer.join(60)
    assert versions == [3] and prices(place) == [1.0, 2.0]


def test_a_fence_between_the_look_and_the_commit_rejects_the_commit(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    just_before_the_commit(monkeypatch, lambda: hold(place))
    with pytest.raises(Held):
        append(place, rows(2.0), wait=0)
    assert prices(place) == [1.0]


def test_one_that_was_rejected_is_appended_once_the_fence_is_down(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_and_lift() -> None:
        hold(place)
        let_go(place)

    just_before_the_commit(monkeypatch, raise_and_lift)
    assert append(place, rows(2.0), wait=0) == 3
    assert prices(place) == [1.0, 2.0]


def test_between_a_restore_and_its_properties_the_fence_still_stands(place: Path) -> None:
    table = DeltaTable(place)
    hold(place)
    assert versions.restore(DeltaTable(place), Pin("rides", "d", {"version": "0"}), "s1")
    assert not any("fence" in name for name in DeltaTable(place).metadata().configuration)
    with pytest.raises(Held, match="s1"):
        append(place, rows(2.0), wait=0)
    with pytest.raises(Exception, match="Metadata changed"):
        write_deltalake(table, rows(3.0), mode="append")


def test_a_fence_gives_back_what_an_unfinished_restore_still_owes(place: Path) -> None:
    DeltaTable(place).alter.set_table_properties({"team": "pricing"}, raise_if_not_exists=False)
    hold(place)
    assert versions.restore(DeltaTable(place), Pin("rides", "d", {"version": "0"}), "s1")
    let_go(place)
    assert [a["metaData"] for a in actions(place) if "metaData" in a][-1]["configuration"] == {
        "team": "pricing",
        "ebbtide.fence.shop": "",
    }


_WRITER = """
from ebbtide.writing import append
import pyarrow as pa
go()
for n in range(10):
    append(sys.argv[1], pa.table({"price": [float(sys.argv[2]) + n], "zone": ["a"]}), wait=60)
print("done")
"""


def test_processes_that_append_at_once_all_land(place: Path) -> None:
    scripts = [_WRITER.replace("sys.argv[2]", f'"{first}"') for first in (100, 200, 300)]
    assert run_together(scripts, str(place)) == ["done"] * 3
    expected = [float(first + n) for first in (100, 200, 300) for n in range(10)]
    assert prices(place) == [1.0, *expected]


_RUN = """
from ebbtide.writing import append
import pyarrow as pa
go()
print(append(sys.argv[1], pa.table({"price": [2.0], "zone": ["a"]}), run="2026-11-20"))
"""


def test_one_run_lands_once_from_processes_at_once(place: Path) -> None:
    assert run_together([_RUN] * 3, str(place)) == ["1"] * 3
    assert prices(place) == [1.0, 2.0]


def test_a_run_is_known_again_behind_checkpoints_and_others_commits(place: Path) -> None:
    assert append(place, rows(2.0), run="a") == 1
    append(place, rows(3.0))
    DeltaTable(place).create_checkpoint()
    DeltaTable(place).optimize.compact()
    assert append(place, rows(2.0), run="a") == 1
    assert append(place, rows(4.0), run="b") == 4
    assert DeltaTable(place).scan(columns=["price"]).read_all().num_rows == 4


def test_a_run_that_was_rolled_back_does_not_come_back_by_itself(place: Path) -> None:
    append(place, rows(66.0), run="poisoned")
    DeltaTable(place).restore(0)
    with pytest.raises(Refused, match="left its rows behind"):
        append(place, rows(66.0), run="poisoned")
    assert prices(place) == [1.0]
    DeltaTable(place).restore(1)
    assert append(place, rows(66.0), run="poisoned") == 1, "and the restore was taken back"
    assert prices(place) == [1.0, 66.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": [1.0]},
        {"price": [1.0], "zone": ["a"], "tip": [1]},
        {"price": ["dear"], "zone": ["a"]},
        [{"price": 1.0}],
        None,
    ],
)
def test_rows_that_do_not_fit_are_refused_and_leave_nothing(place: Path, wrong: Any) -> None:
    before = sorted(path.name for path in place.rglob("*"))
    with pytest.raises(Refused):
        append(place, wrong)
    assert sorted(path.name for path in place.rglob("*")) == before


def test_a_stream_is_read_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_and_lift() -> None:
        hold(place)
        let_go(place)

    just_before_the_commit(monkeypatch, raise_and_lift)
    stream = pa.RecordBatchReader.from_batches(rows(2.0).schema, rows(2.0, 3.0).to_batches())
    append(place, stream)
    assert prices(place) == [1.0, 2.0, 3.0]


def test_where_no_table_is_or_no_store_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unknown, match="no Delta table"):
        append(tmp_path / "nowhere", rows(1.0))
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Unreachable, match="s3://bucket/t"):
        append("s3://bucket/t", rows(1.0))


def test_an_append_leaves_old_versions_to_be_restored(tmp_path: Path) -> None:
    """By the table's own properties, delta-rs would clean its log up at every other commit."""
    none = {"delta.logRetentionDuration": "interval 0 days", "delta.checkpointInterval": "2"}
    for name in ("helped", "plain"):
        write_deltalake(tmp_path / name, rows(0.0), configuration=none)
    for n in range(5):
        append(tmp_path / "helped", rows(float(n)))
        write_deltalake(tmp_path / "plain", rows(float(n)), mode="append")
    assert len(infos(tmp_path / "helped")) == 6 > len(infos(tmp_path / "plain"))
    assert DeltaTable(tmp_path / "helped", version=0).count() == 1


def test_a_table_is_found_by_its_systems_file(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(
        json.dumps(
            {
                "system": "shop",
                "root": ".",
                "layers": {
                    "data": {
                        "clicks": {"path": "tables/clicks", "role": "training"},
                        "far": {"path": "s3://bucket/far", "role": "training"},
                    }
                },
            }
        )
    )
    assert table_of("shop", "clicks", tmp_path) == str(tmp_path / "tables/clicks")
    assert table_of("shop", "far", tmp_path) == "s3://bucket/far"
    with pytest.raises(Unknown, match="There are: clicks, far"):
        table_of("shop", "views", tmp_path)


def test_the_helper_is_cheap_to_import() -> None:
    """A job that writes needs no web server, no registry and no SQL."""
    heavy = "{'mlflow', 'prefect', 'pandas', 'fastapi', 'sqlalchemy', 'pyarrow'}"
    code = f"import sys, ebbtide.writing; print({heavy} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=same_imports())
    assert found.stdout.strip() == "set()"
