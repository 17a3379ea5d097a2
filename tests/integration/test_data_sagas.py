"""Levels `system` and `data` on real tables: all or none, writers held back, nothing lost."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.core.errors import Held
from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.saga import Level, Move, Phase, Saga, SagaState
from ebbtide.writing import append
from flows.order import plan
from tests.integration.journal_fixtures import same_imports
from tests.leased_tables import (  # noqa: F401 - fixtures
    KEPT,
    Leased,
    built,
    infos,
    leased,
    rows,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

BAD = [1.0, 66.0, 67.0]
BOTH = {"rides": "1", "zones": "1"}


def both_back(leased: Leased) -> Saga:
    """One saga that restores both tables: the live release goes on meanwhile."""
    return leased.order(Level.DATA, tables=BOTH, safe=leased.bad.id)


def as_before(leased: Leased) -> None:
    for table in ("rides", "zones"):
        assert leased.prices(table) == BAD
        assert leased.properties(table) == KEPT
        assert leased.fences(table) == []
    assert leased.world.journal.fences("fake") == []
    assert leased.world.journal.verify() == []


def at_each_restore(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Let something happen just before a restore commits, told the table's folder."""
    restore = DeltaTable.restore

    def late(self: DeltaTable, *args: Any, **options: Any) -> Any:
        act(Path(self.table_uri.removeprefix("file://")))
        return restore(self, *args, **options)

    monkeypatch.setattr(DeltaTable, "restore", late)


def proving(leased: Leased, gate: Any) -> Leased:
    """The same system with a gate of its own between the cut-over and its end."""
    world = replace(leased.world, own_gates={Phase.PROVE: {"gate": gate}})
    return replace(leased, world=world)


def test_both_tables_go_back_behind_a_fence_that_is_down_again(leased: Leased) -> None:
    saga = both_back(leased)
    assert saga.state is SagaState.COMPLETED, saga.why
    for table in ("rides", "zones"):
        assert leased.prices(table) == [1.0] and leased.properties(table) == KEPT
        mine = [info for info in infos(leased.at(table)) if info.get("ebbtide.saga") == saga.id]
        assert [info["operation"] for info in mine] == [
            "SET TBLPROPERTIES",  # the fence
            "RESTORE",
            "SET TBLPROPERTIES",  # what the restore reverted
            "SET TBLPROPERTIES",  # the fence is down
        ]
        assert leased.fences(table) == []
    assert leased.world.journal.fences("fake") == []
    told = [entry.what for entry in leased.world.journal.audit("fake") if "fence" in entry.what]
    assert told == ["fence lifted", "fence raised"]
    assert leased.world.journal.verify() == []


def test_where_the_second_table_fails_the_first_comes_back(
    leased: Leased, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = DeltaTable(leased.at("zones"), version=1).file_uris()

    def lose(table: Path) -> None:
        if table.name == "rides" and Path(old).exists():
            Path(old).rename(leased.folder / "aside")

    at_each_restore(monkeypatch, lose)
    saga = both_back(leased)
    (leased.folder / "aside").rename(old)
    assert saga.state is SagaState.TAKEN_BACK and "missing" in saga.why, saga.why
    restores = [i for i in infos(leased.at("rides")) if i["operation"] == "RESTORE"]
    assert len(restores) == 2, "there and back"
    remembered = next(
        step.remembered
        for step in leased.world.journal.steps(saga.id)
        if step.name == "data.restore_tables"
    )
    assert set(remembered) == {"rides", "zones"}, "both, before the first was touched"
    as_before(leased)


def test_a_vacuumed_target_is_refused_and_nothing_is_touched(leased: Leased) -> None:
    for table in ("rides", "zones"):
        write_deltalake(leased.at(table), rows(7.0), mode="overwrite")
        DeltaTable(leased.at(table)).vacuum(0, dry_run=False, enforce_retention_duration=False)
    before = {table: infos(leased.at(table)) for table in ("rides", "zones")}
    saga = both_back(leased)
    assert saga.state is SagaState.REFUSED and "missing" in saga.why, saga.why
    assert {table: infos(leased.at(table)) for table in ("rides", "zones")} == before


def test_a_schema_that_changed_in_between_goes_back_with_its_rows(leased: Leased) -> None:
    tipped = rows(7.0).append_column("tip", pa.array([0.5]))
    write_deltalake(leased.at("rides"), tipped, mode="append", schema_mode="merge")
    saga = both_back(leased)
    assert saga.state is SagaState.COMPLETED, saga.why
    assert leased.prices("rides") == [1.0]
    assert DeltaTable(leased.at("rides")).schema().to_arrow().names == ["price", "zone"]
    append(leased.at("rides"), rows(5.0), wait=0)


def test_where_the_proof_fails_all_comes_back_and_writers_go_on(leased: Leased) -> None:
    saga = both_back(proving(leased, lambda _world, _move: failed("no good")))
    assert saga.state is SagaState.TAKEN_BACK, saga.why
    as_before(leased)
    append(leased.at("rides"), rows(5.0), wait=0)
    assert leased.prices("rides") == [1.0, 5.0, 66.0, 67.0]


def test_nobody_appends_through_ebbtide_until_it_is_proved(leased: Leased) -> None:
    met: list[str] = []

    def try_to(_world: World, _move: Move) -> Finding:
        for table in ("rides", "zones"):
            with pytest.raises(Held, match="saga"):
                append(leased.at(table), rows(5.0), wait=0)
            met.append(table)
        return passed("held")

    saga = both_back(proving(leased, try_to))
    assert saga.state is SagaState.COMPLETED, saga.why
    assert met == ["rides", "zones"] and leased.prices("rides") == [1.0]
    append(leased.at("rides"), rows(5.0), wait=0)
    assert leased.prices("rides") == [1.0, 5.0]


def test_level_system_holds_back_only_whom_it_has_to(leased: Leased) -> None:
    saga = leased.order(Level.SYSTEM)
    assert saga.state is SagaState.COMPLETED, saga.why
    assert leased.prices("zones") == [1.0] and leased.prices("rides") == BAD
    assert not [info for info in infos(leased.at("rides")) if info.get("ebbtide.saga")]


def test_a_promotion_to_what_the_tables_show_commits_nothing_to_them(leased: Leased) -> None:
    assert not [info for info in infos(leased.at("zones")) if "ebbtide.saga" in info]


def test_a_fence_that_was_left_standing_is_lifted_by_the_next_saga(leased: Leased) -> None:
    order = Order(Level.SYSTEM, by="tester")
    journal, planned = leased.world.journal, plan(leased.world, order).plan
    stuck, lease = journal.open_saga(planned, by="tester", reason="")
    journal.raise_fence(lease, ["rides"])
    leased.tables.hold_writers("rides", "fake", stuck.id)
    leased.tables.hold_writers("rides", "another", "alive")
    journal.close_saga(lease, SagaState.NEEDS_HUMAN, "stuck")

    saga = leased.order(Level.SYSTEM)

    assert saga.state is SagaState.COMPLETED, saga.why
    assert journal.fences("fake") == [] and journal.verify() == []
    assert leased.fences("rides") == ["alive"], "another system's fence is not ours"
    with pytest.raises(Held, match="saga alive of another"):
        append(leased.at("rides"), rows(5.0), wait=0)


def test_who_gets_in_the_way_is_named_and_keeps_what_was_written(
    leased: Leased, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_each_restore(
        monkeypatch,
        lambda table: table.name == "rides" and write_deltalake(table, rows(5.0), mode="append"),
    )
    saga = both_back(leased)
    assert saga.state is SagaState.TAKEN_BACK, "nothing of its own was there to take back"
    assert "changed by somebody else" in saga.why and "delta-rs:py" in saga.why, saga.why
    assert "1 x WRITE" in saga.why and "up to version" in saga.why, saga.why
    assert 5.0 in leased.prices("rides")


_LOOP = """
import sys
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
n = float(sys.argv[2])
while True:
    n += 1
    try:
        write_deltalake(sys.argv[1], pa.table({"price": [n], "zone": ["a b"]}), mode="append")
    except CommitFailedError:
        continue
    print(n, flush=True)
"""


@contextmanager
def writing_in_a_loop(table: Path, acknowledged: list[float]) -> Iterator[None]:
    """Two foreign processes that append as fast as they can, and remember what was acknowledged."""
    loops = [
        subprocess.Popen(
            [sys.executable, "-c", _LOOP, str(table), first],
            stdout=subprocess.PIPE,
            text=True,
            env=same_imports(),
        )
        for first in ("1000", "1000000")
    ]
    try:
        for loop in loops:
            assert loop.stdout
            acknowledged.append(float(loop.stdout.readline()))
        yield
    finally:
        for loop in loops:
            loop.kill()
            told = loop.communicate(timeout=60)[0].splitlines(keepends=True)
            acknowledged += [float(line) for line in told if line.endswith("\n")]


def test_writers_in_a_loop_neither_hold_a_restore_up_nor_lose_a_commit(leased: Leased) -> None:
    acknowledged: list[float] = []
    with writing_in_a_loop(leased.at("rides"), acknowledged):
        saga = both_back(leased)
    restored = any(info["operation"] == "RESTORE" for info in infos(leased.at("rides")))
    if not restored:
        assert saga.state is SagaState.TAKEN_BACK, saga.left
        assert "rides" in saga.why and "delta-rs:py" in saga.why, saga.why
        assert set(acknowledged) <= set(leased.prices("rides")), "as if nothing had been tried"
        assert leased.prices("zones") == BAD
    elif saga.state is not SagaState.COMPLETED:
        assert saga.state is SagaState.NEEDS_HUMAN, "it won the race, and then others wrote on"
        assert "delta-rs:py" in saga.left[0]
    ever = {
        price
        for file in leased.at("rides").rglob("part-*.parquet")
        for price in pq.ParquetFile(file).read(["price"])["price"].to_pylist()
    }
    assert acknowledged and set(acknowledged) <= ever
    assert leased.fences("rides") == []
