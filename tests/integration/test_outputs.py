"""Batch outputs: written once, read where valid, recalled with the release that wrote them."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide import outputs
from ebbtide.core.errors import Conflict, Quarantined, Refused, Unknown
from ebbtide.core.outputs import Blame, PartState
from ebbtide.core.planner import Order
from ebbtide.core.saga import Level
from ebbtide.testing import round_trip
from flows.levels import STEPS
from flows.order import carry_out, plan
from tasks import outputs as recalling
from tests.integration.journal_fixtures import run_together, same_imports
from tests.integration.outputs_fixtures import (  # noqa: F401 - fixtures
    QUOTES,
    Shop,
    commits,
    shop,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


def test_a_written_partition_says_whose_it_is_and_is_read_back(shop: Shop) -> None:
    part = shop.write("d1", "r1")
    assert (part.state, part.rows, part.release) == (PartState.VALID, 3, shop.bad.id)
    (row, *_) = found = sorted(shop.seen(), key=lambda row: row["id"])
    assert len(found) == 3
    assert (row["_release"], row["_run"], row["_partition"]) == (shop.bad.id, "r1", "d1")
    assert row["_valid"] is True
    assert shop.table() == {"d1": [("r1", True, 3)]}
    types = outputs.read(shop.world, QUOTES, consumer="mailer").schema
    assert {types.field(name).type for name in ("_release", "_run")} == {pa.string()}
    assert not shop.world.journal.verify()


def test_the_same_run_twice_writes_once(shop: Shop) -> None:
    first = shop.write("d1", "r1")
    before = commits(shop.root / QUOTES)
    assert shop.write("d1", "r1", [{"id": 9, "price": 9.0}]) == first
    assert commits(shop.root / QUOTES) == before


def test_another_run_replaces_its_partition_and_no_other(shop: Shop) -> None:
    for partition in ("d1", "it's 50% / ü=x"):
        shop.write(partition, "r1")
    shop.write("it's 50% / ü=x", "r2", [{"id": 1, "price": 2.0}])
    assert shop.table() == {"d1": [("r1", True, 3)], "it's 50% / ü=x": [("r2", True, 1)]}
    assert shop.ledger("partition, run, replaced_by") == [
        ("d1", "r1", ""),
        ("it's 50% / ü=x", "r1", "r2"),
        ("it's 50% / ü=x", "r2", ""),
    ]
    assert {row["_run"] for row in shop.seen(partitions=["it's 50% / ü=x"])} == {"r2"}
    assert not shop.world.journal.verify()


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame({"id": [1, 2], "price": [0.5, 1.0]}, index=[7, 8]),
        pa.table({"id": [1, 2], "price": [0.5, 1.0]}),
        pa.table({"id": [1, 2], "price": [0.5, 1.0]}).to_reader(max_chunksize=1),
    ],
    ids=["pandas", "table", "stream"],
)
def test_rows_come_in_whatever_form_they_are(shop: Shop, rows: object) -> None:
    assert shop.write("d1", "r1", rows).rows == 2
    assert sorted(row["price"] for row in shop.seen(columns=["price"])) == [0.5, 1.0]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "no rows"),
        (pd.DataFrame({"id": [], "price": []}), "no rows"),
        (pa.table({"id": pa.array([], pa.int64())}).to_reader(), "no rows"),
        ([{"id": 1, "_valid": True}], "`_valid` of their own"),
        ("id,price", "no rows that can be written"),
        ([1, 2], "no rows that can be written"),
        ([{"id": "text", "price": 1.0}], "text"),
    ],
    ids=["none", "empty frame", "empty stream", "reserved", "text", "numbers", "wrong type"],
)
def test_rows_that_cannot_be_written_leave_what_was_there(
    shop: Shop, rows: object, why: str
) -> None:
    shop.write("d1", "r1")
    with pytest.raises(Refused, match=why):
        shop.write("d1", "r2", rows)
    assert shop.table() == {"d1": [("r1", True, 3)]}
    assert shop.partitions() == {"d1"}


def test_no_rows_make_no_table(shop: Shop) -> None:
    with pytest.raises(Refused, match="no rows"):
        shop.write("d1", "r1", pd.DataFrame({"id": []}))
    assert not (shop.root / QUOTES).exists()


def test_a_new_column_is_added_and_an_old_one_may_be_missing(shop: Shop) -> None:
    shop.write("d1", "r1")
    shop.write("d2", "r1", [{"id": 1, "price": 1.0, "currency": "EUR"}])
    shop.write("d3", "r1", [{"id": 1}])
    found = {(row["_partition"], row["price"], row["currency"]) for row in shop.seen()}
    assert {("d2", 1.0, "EUR"), ("d3", None, None)} < found
    assert ("d1", 0.5, None) in found


def test_names_that_nobody_knows_are_refused(shop: Shop, fakes: object) -> None:
    for call in (
        lambda: outputs.write(shop.world, "nothing", "d1", [{"a": 1}], run="r1"),
        lambda: outputs.read(shop.world, "nothing", consumer="mailer"),
        lambda: outputs.read(shop.world, QUOTES, consumer="mailer"),
        lambda: shop.write("d1", "r1", release="abcdef123456"),
    ):
        with pytest.raises(Unknown):
            call()
    for partition, run in (("", "r1"), ("a\nb", "r1"), ("d1", "no spaces"), ("d1", "")):
        with pytest.raises(Refused):
            shop.write(partition, run)
    with pytest.raises(Unknown, match="names no output"):
        outputs.write(replace(shop.world, outputs=None), QUOTES, "d1", [{"a": 1}], run="r1")


def test_a_run_keeps_the_release_that_it_began_with(shop: Shop) -> None:
    run = outputs.start(shop.world, "r1")
    assert run.release == shop.bad.id
    assert outputs.start(shop.world, "r1", release=shop.bad.short) == run
    with pytest.raises(Conflict, match="one release"):
        outputs.start(shop.world, "r1", release=shop.good.id)
    assert carry_out(shop.world, _back(shop)).state == "completed"
    with pytest.raises(Quarantined, match="quarantined"):
        outputs.start(shop.world, "r1")
    with pytest.raises(Quarantined, match="quarantined"):
        shop.world.journal.begin_part(run, QUOTES, "d1")
    assert outputs.start(shop.world, "r2").release == shop.good.id
    assert not (shop.root / QUOTES).exists()


def test_a_rollback_recalls_what_the_bad_release_wrote(shop: Shop) -> None:
    shop.write("d1", "by-good", release=shop.good.id)
    for partition in ("d2", "d3"):
        shop.write(partition, "by-bad")
    assert shop.partitions() == {"d1", "d2", "d3"}
    saga = carry_out(shop.world, _back(shop))
    assert saga.state == "completed", saga.why
    assert shop.partitions() == {"d1"}
    assert shop.table() == {
        "d1": [("by-good", True, 3)],
        "d2": [("by-bad", False, 3)],
        "d3": [("by-bad", False, 3)],
    }
    step = next(each for each in shop.world.journal.steps(saga.id) if each.name == "outputs.recall")
    assert dict(step.measured) == {"parts": 2, "owed": 0}
    (recall,) = shop.world.journal.recalls(shop.world.system)
    assert (recall.saga, recall.blame) == (saga.id, Blame(release=shop.bad.id))
    assert not shop.world.journal.verify()


def test_the_row_of_the_table_makes_its_round_trip_on_a_real_table(shop: Shop) -> None:
    for partition in ("d1", "d2"):
        shop.write(partition, "by-bad")
    order = _back(shop)
    drafted = plan(shop.world, order)
    saga, lease = shop.world.journal.open_saga(drafted.plan, by="tester", reason="contract")
    (row,) = (row for row in STEPS if row.name == "outputs.recall")
    round_trip(replace(shop.world, lease=lease), row, drafted.move(saga.id, order))
    assert {name: files[0][1] for name, files in shop.table().items()} == {"d1": False, "d2": False}


def test_a_table_that_is_away_does_not_keep_a_rollback_from_its_end(shop: Shop) -> None:
    shop.write("d1", "by-bad")
    log = shop.root / QUOTES / "_delta_log"
    log.rename(log.with_name("away"))
    log.write_text("no folder")
    saga = carry_out(shop.world, _back(shop))
    assert saga.state == "completed", saga.left
    assert shop.ledger() == [("d1", "by-bad", 1, 0)]
    log.unlink()
    log.with_name("away").rename(log)
    assert shop.seen() == []
    parts = shop.world.journal.parts(shop.world.system)
    assert recalling.mark(shop.world, parts) == 1
    assert shop.table() == {"d1": [("by-bad", False, 3)]}
    assert shop.ledger() == [("d1", "by-bad", 1, 1)]


def test_what_lands_after_its_recall_is_never_seen_and_is_marked(shop: Shop) -> None:
    """The job had its intent in the journal when the recall came, and commits after it."""
    run = outputs.start(shop.world, "late")
    part = shop.world.journal.begin_part(run, QUOTES, "d1")
    _recall(shop)
    assert shop.world.outputs
    shop.world.outputs.write(part, [{"id": 1, "price": 1.0}])
    assert shop.seen() == []
    with pytest.raises(Quarantined, match="marked invalid"):
        outputs._settled(
            shop.world, shop.world.outputs, part, shop.world.outputs.standing(QUOTES)["d1"]
        )
    assert shop.table() == {"d1": [("late", False, 1)]}
    assert shop.ledger() == [("d1", "late", 1, 1)]
    with pytest.raises(Quarantined, match="recalled"):
        shop.write("d1", "late")
    assert not shop.world.journal.verify()


def test_a_recall_again_writes_nothing_unless_there_is_something_new(shop: Shop) -> None:
    shop.write("d1", "r1")
    assert [part.state for part in _recall(shop)] == [PartState.INVALID]
    entries, table = len(shop.world.journal.audit("", 10_000)), commits(shop.root / QUOTES)
    assert [part.state for part in _recall(shop)] == [PartState.INVALID]
    recalling.mark(shop.world, shop.world.journal.parts(shop.world.system))
    recalling.mark(shop.world, shop.world.journal.parts(shop.world.system))
    assert len(shop.world.journal.audit("", 10_000)) == entries + 1  # the mark
    assert commits(shop.root / QUOTES) == table + 1
    shop.write("d2", "r2")  # the same release, not quarantined: a run of after the recall
    assert shop.partitions() == {"d2"}
    assert len(_recall(shop)) == 2
    assert shop.partitions() == set()


def test_a_run_from_before_a_recall_writes_no_more_though_it_had_written_nothing(
    shop: Shop,
) -> None:
    outputs.start(shop.world, "slow")
    _recall(shop)
    with pytest.raises(Quarantined, match="began before"):
        shop.write("d1", "slow")
    assert shop.write("d1", "next").state is PartState.VALID


@pytest.mark.parametrize("stranger", ["stranger", "r1"])
def test_rows_that_came_past_ebbtide_are_not_in_the_view(shop: Shop, stranger: str) -> None:
    """Also where they say that they are of a run which the ledger knows."""
    shop.write("d1", "r1")
    shop.write("d1", "r2")
    rows = outputs.read(shop.world, QUOTES, consumer="mailer").read_all()
    names = pa.array([stranger] * len(rows))
    foreign = rows.set_column(rows.schema.get_field_index("_run"), "_run", names)
    write_deltalake(shop.root / QUOTES, foreign, mode="append")
    assert shop.seen() == []  # whose the partition is cannot be told
    shop.write("d1", "r3")
    assert {row["_run"] for row in shop.seen()} == {"r3"}


def test_a_table_that_is_no_output_is_left_alone(shop: Shop) -> None:
    write_deltalake(shop.root / QUOTES, pa.table({"id": [1]}))
    with pytest.raises(Refused, match="not made as an output"):
        shop.write("d1", "r1")
    assert DeltaTable(shop.root / QUOTES).version() == 0


def test_the_journal_keeps_who_was_given_what(shop: Shop) -> None:
    shop.write("d1", "r1")
    shop.write("d2", "r1")
    shop.seen("mailer", partitions=["d1"])
    shop.seen("mailer", partitions=["d1"])
    shop.seen("reports")
    mailer, reports = shop.world.journal.reads(shop.world.system, QUOTES)
    assert mailer.consumer == "mailer"
    assert mailer.parts == {("d1", "r1")}
    assert mailer.last_at >= mailer.first_at
    assert reports.parts == {("d1", "r1"), ("d2", "r1")}
    assert not shop.world.journal.verify()


CRASH = """
    import sys
    from pathlib import Path
    from dataclasses import replace
    from ebbtide import outputs
    from ebbtide.adapters.delta.outputs import OutputTables
    from ebbtide.adapters.system.things import OutputThing
    from ebbtide.testing import fake_world
    root = Path(sys.argv[1])
    tables = OutputTables({"quotes": OutputThing(path="quotes")}, lambda path: root / path)
    world = replace(fake_world(root), outputs=tables)
"""
WRITE = "outputs.write(world, 'quotes', 'd1', [{'id': 1, 'price': 5.0}], run=sys.argv[2])"


@pytest.mark.parametrize(
    ("point", "landed"),
    [("outputs.write/intent-written", False), ("outputs.write/effect-done", True)],
)
def test_a_job_that_is_killed_is_settled_by_its_next_attempt(
    shop: Shop, point: str, landed: bool
) -> None:
    shop.write("d0", "r0")
    script = textwrap.dedent(CRASH) + WRITE
    killed = subprocess.run(
        [sys.executable, "-c", script, str(shop.root), "r1"],
        env={**same_imports(), "EBBTIDE_CRASH_AT": point},
        check=False,
        timeout=60,
    )
    assert killed.returncode == -9
    assert shop.ledger("partition, written_at IS NULL")[1] == ("d1", 1)
    assert ("d1" in shop.table()) is landed
    assert ("d1" in shop.partitions()) is landed  # a commit that landed is whole
    before = commits(shop.root / QUOTES)
    part = shop.write("d1", "r1", [{"id": 1, "price": 5.0}])
    assert (part.state, part.rows) == (PartState.VALID, 1)
    assert commits(shop.root / QUOTES) == before + (not landed)
    assert shop.partitions() == {"d0", "d1"}
    assert not shop.world.journal.verify()


def test_what_a_killed_job_left_is_recalled_with_the_rest(shop: Shop) -> None:
    script = textwrap.dedent(CRASH) + WRITE
    subprocess.run(
        [sys.executable, "-c", script, str(shop.root), "r1"],
        env={**same_imports(), "EBBTIDE_CRASH_AT": "outputs.write/effect-done"},
        check=False,
        timeout=60,
    )
    assert shop.partitions() == {"d1"}
    recalling.mark(shop.world, _recall(shop))
    assert shop.seen() == []
    assert shop.table() == {"d1": [("r1", False, 1)]}


def test_two_writers_of_one_partition_leave_one_whole_and_the_ledger_knows_which(
    shop: Shop,
) -> None:
    shop.write("d0", "r0")
    many = WRITE.replace("run=sys.argv[2]", "run=f'{name}-{n}'")
    script = textwrap.dedent(CRASH) + "go()\nname = NAME\nfor n in range(6): " + many
    run_together([script.replace("NAME", repr(name)) for name in ("a", "b")], str(shop.root))
    ((run, valid, rows),) = shop.table()["d1"]
    assert (valid, rows) == (True, 1)
    standing = shop.ledger("partition, run, replaced_by")
    assert [each[1] for each in standing if each[0] == "d1" and not each[2]] == [run]
    assert {row["_run"] for row in shop.seen(partitions=["d1"])} == {run}
    assert len(standing) == 13
    assert not shop.world.journal.verify()


def test_the_ledger_is_ordered_by_the_table_not_by_who_told_it_first(shop: Shop) -> None:
    world, store = shop.world, shop.world.outputs
    assert store
    runs = [outputs.start(world, name) for name in ("slow", "fast")]
    slow, fast = (world.journal.begin_part(run, QUOTES, "d1") for run in runs)
    store.write(slow, [{"id": 1, "price": 1.0}])
    first = store.standing(QUOTES)["d1"]
    store.write(fast, [{"id": 2, "price": 2.0}])
    outputs._settled(world, store, fast, store.standing(QUOTES)["d1"])
    late = outputs._settled(world, store, slow, first)
    assert late.replaced_by == "fast"
    assert shop.ledger("run, replaced_by") == [("fast", ""), ("slow", "fast")]
    assert not world.journal.verify()


def test_a_reader_sees_what_stood_when_it_looked(shop: Shop) -> None:
    """Between a reader's look at the table and at the ledger another run replaces the rows."""
    shop.write("d1", "r1")
    store = shop.world.outputs
    assert store

    def allowed(there: object) -> set[str]:
        shop.write("d1", "r2")
        return outputs._valid(shop.world, QUOTES, there)  # type: ignore[arg-type]

    reader, given = store.read(QUOTES, allowed, None, None)
    assert {row["_run"] for row in reader.read_all().to_pylist()} == {"r1"}
    assert given == {("d1", "r1")}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE output_parts SET recall = '' WHERE partition = 'd1'",
        "UPDATE output_parts SET replaced_by = 'nobody' WHERE partition = 'd2'",
        "UPDATE output_runs SET release = (SELECT min(id) FROM releases WHERE id <> release)",
        'UPDATE output_recalls SET blame = replace(blame, \'"model":""\', \'"model":"x"\')',
        "UPDATE output_reads SET last_at = last_at + 1",
        "UPDATE output_reads SET content = '[]'",
        "DELETE FROM output_parts",
    ],
)
def test_a_ledger_that_was_changed_by_hand_shows(shop: Shop, change: str) -> None:
    import sqlite3
    from contextlib import closing

    shop.write("d1", "r1")
    shop.seen()
    _recall(shop)
    shop.write("d2", "r2")
    assert not shop.world.journal.verify()
    with closing(sqlite3.connect(shop.root / "journal.db")) as database, database:
        assert database.execute(change).rowcount
    assert shop.world.journal.verify()


def _back(shop: Shop) -> Order:
    return Order(Level.SYSTEM, by="tester", to=shop.good.id)


def _recall(shop: Shop) -> list[outputs.Part]:
    blame = Blame(release=shop.bad.id)
    return shop.world.journal.recall(shop.world.system, blame, by="ada", reason="bad prices")


def test_paths_are_where_the_system_file_says(tmp_path: Path, shop: Shop) -> None:
    shop.write("d1", "r1")
    assert DeltaTable(tmp_path / QUOTES).metadata().partition_columns == [
        "_partition",
        "_run",
        "_valid",
    ]
