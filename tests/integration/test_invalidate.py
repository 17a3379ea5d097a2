"""Invalidating batch outputs: by release, model and time; told, scored anew, and only once."""

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import dask
import pytest
from distributed import LocalCluster
from typer.testing import CliRunner

from ebbtide import outputs
from ebbtide.bootstrap import open_world
from ebbtide.core.errors import BadConfiguration, Quarantined, Refused
from ebbtide.core.outputs import Blame, PartState
from ebbtide.core.ports import World
from ebbtide.entrypoints.cli.main import app
from flows import recalls
from flows.recalls import Wish, invalidate
from flows.spreading import spread_of
from tests.integration.journal_fixtures import same_imports
from tests.integration.outputs_fixtures import (  # noqa: F401 - fixtures
    FAILING,
    QUOTES,
    RESCORE,
    Filed,
    commits,
    filed,
    with_file,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


@pytest.fixture
def written(filed: Filed) -> Filed:
    """Three partitions of the bad release and one of the good one; two consumers have read."""
    for partition in ("d1", "d2", "d3"):
        filed.write(partition, "nightly", filed.bad)
    filed.write("d4", "morning", filed.good)
    world = open_world("shop", filed.folder)
    outputs.read(world, QUOTES, consumer="mailer", partitions=["d1", "d2"]).read_all()
    outputs.read(world, QUOTES, consumer="mailer", partitions=["d3"]).read_all()
    outputs.read(world, QUOTES, consumer="reports", partitions=["d4"]).read_all()
    return filed


def _world(filed: Filed) -> World:
    return open_world("shop", filed.folder)


def _wish(filed: Filed, **more: Any) -> Wish:
    return Wish(Blame(release=filed.bad.short), "ada", "bad prices", **more)


def _prices(filed: Filed) -> dict[str, set[float]]:
    found: dict[str, set[float]] = {}
    rows = outputs.read(_world(filed), QUOTES, consumer="test").read_all().to_pylist()
    for row in rows:
        found.setdefault(row["_partition"], set()).add(row["price"])
    return found


def _bad(filed: Filed) -> set[str]:
    return {partition for partition, _, recalled, _ in filed.ledger() if recalled}


def test_all_that_a_release_wrote_is_recalled_marked_and_told(written: Filed) -> None:
    outcome = invalidate(_world(written), _wish(written))
    assert (len(outcome.parts), outcome.new, outcome.rescored) == (3, 3, 0)
    assert [part.state for part in outcome.waiting] == [PartState.INVALID] * 3
    assert set(_prices(written)) == {"d4"}
    assert {name: files[0][1] for name, files in written.table().items()} == {
        "d1": False,
        "d2": False,
        "d3": False,
        "d4": True,
    }
    mailer, team = outcome.reached
    assert (mailer.consumer, mailer.contact) == ("mailer", "desk 7")
    assert mailer.partitions == ("d1", "d2", "d3")
    assert mailer.first_at is not None and mailer.last_at is not None
    assert mailer.first_at <= mailer.last_at <= time.time() + 1
    assert (team.consumer, team.partitions) == ("ledger-team", ())  # declared, and never seen
    assert not written.journal.verify()


def test_by_model_version(written: Filed) -> None:
    outcome = invalidate(_world(written), Wish(Blame(model="demand", version="7"), "ada"))
    assert {part.partition for part in outcome.parts} == {"d1", "d2", "d3"}
    other = invalidate(_world(written), Wish(Blame(model="demand", version="5"), "ada"))
    assert other.parts == ()


def test_by_the_time_in_which_it_was_written(filed: Filed) -> None:
    filed.write("d1", "r1", filed.bad)
    began = _world(filed).journal.now()
    time.sleep(0.01)  # so that the clock of the journal, of milliseconds, moves on
    filed.write("d2", "r2", filed.bad)
    time.sleep(0.01)
    ended = _world(filed).journal.now()
    time.sleep(0.01)
    filed.write("d3", "r3", filed.bad)
    invalidate(_world(filed), Wish(Blame(since=began, until=ended), "ada"))
    assert _bad(filed) == {"d2"}
    with pytest.raises(Refused, match="not over"):
        invalidate(_world(filed), Wish(Blame(since=began, until=ended + 3600), "ada"))


@pytest.mark.parametrize(
    "said",
    [
        ("", "", "", ""),
        ("abcdef", "m=1", "", ""),
        ("", "m", "", ""),
        ("", "", "2026-03-01", ""),
        ("", "", "2026-03-02", "2026-03-01"),
        ("", "", "yesterday", "2026-03-01"),
    ],
)
def test_what_is_to_blame_is_said_in_one_way(said: tuple[str, str, str, str]) -> None:
    with pytest.raises(Refused):
        recalls.blame_of(*said)


def test_a_time_without_a_zone_is_utc() -> None:
    assert recalls.moment("1970-01-02") == 86_400
    assert recalls.moment("1970-01-01T01:00+01:00") == 0


def test_it_is_scored_anew_with_the_good_release_and_only_once(written: Filed) -> None:
    outcome = invalidate(_world(written), _wish(written, rescore=True))
    assert (outcome.rescored, outcome.failures, outcome.waiting) == (3, {}, ())
    assert _prices(written) == {"d1": {6}, "d2": {6}, "d3": {6}, "d4": {1, 2, 3, 4}}
    releases = {
        (partition, release)
        for partition, release, replaced in written.ledger("partition, release, replaced_by")
        if not replaced
    }
    assert releases == {(name, written.good.id) for name in ("d1", "d2", "d3", "d4")}
    before = (commits(written.root / QUOTES), len(written.journal.audit("", 10_000)))
    again = invalidate(_world(written), _wish(written, rescore=True))
    assert (len(again.parts), again.new, again.rescored) == (3, 0, 0)
    assert (commits(written.root / QUOTES), len(written.journal.audit("", 10_000))) == before
    assert not written.journal.verify()


def test_a_partition_that_fails_stays_recalled_and_is_tried_again(written: Filed) -> None:
    with_file(written, outputs={QUOTES: {"path": QUOTES, "rescore": FAILING}})
    outcome = invalidate(_world(written), _wish(written, rescore=True))
    assert outcome.rescored == 2
    assert outcome.failures == {"quotes d1": "RuntimeError: no inputs for d1"}
    assert [part.partition for part in outcome.waiting] == ["d1"]
    assert set(_prices(written)) == {"d2", "d3", "d4"}
    with_file(written, outputs={QUOTES: {"path": QUOTES, "rescore": RESCORE}})
    assert invalidate(_world(written), _wish(written, rescore=True)).rescored == 1
    assert set(_prices(written)) == {"d1", "d2", "d3", "d4"}


def test_one_that_died_half_way_is_finished_by_the_same_wish(written: Filed) -> None:
    """Recalled in the ledger, and nothing more: then the process was gone."""
    world = _world(written)
    world.journal.recall("shop", Blame(release=written.bad.id), by="ada", reason="bad prices")
    assert set(_prices(written)) == {"d4"}
    outcome = invalidate(_world(written), _wish(written, rescore=True))
    assert (outcome.new, outcome.rescored) == (0, 3)
    assert all(marked for _, _, recalled, marked in written.ledger() if recalled)


def test_what_a_good_run_has_replaced_is_not_scored_again(written: Filed) -> None:
    written.write("d1", "repair", written.good)
    outcome = invalidate(_world(written), _wish(written, rescore=True))
    assert {part.partition for part in outcome.parts} == {"d1", "d2", "d3"}  # d1 had readers
    assert outcome.rescored == 2
    assert written.table()["d1"] == [("repair", True, 4)]


def test_good_rows_that_landed_are_not_replaced_though_their_job_died_then(written: Filed) -> None:
    world = _world(written)
    run = outputs.start(world, "repair", release=written.good.id)
    part = world.journal.begin_part(run, QUOTES, "d1")
    assert world.outputs
    world.outputs.write(part, [{"id": 1, "price": 6.5}])
    assert invalidate(world, _wish(written, rescore=True)).rescored == 2
    assert written.table()["d1"] == [("repair", True, 1)]
    assert _prices(written)["d1"] == {6.5}


def test_what_was_begun_and_never_written_is_not_made_up(filed: Filed) -> None:
    filed.write("d1", "old", filed.good)
    world = _world(filed)
    run = outputs.start(world, "killed", release=filed.bad.id)
    for partition in ("d1", "d2"):
        world.journal.begin_part(run, QUOTES, partition)
    outcome = invalidate(_world(filed), _wish(filed, rescore=True))
    assert (len(outcome.parts), outcome.rescored) == (2, 0)
    assert filed.table() == {"d1": [("old", True, 4)]}
    assert set(_prices(filed)) == {"d1"}


def test_nothing_is_scored_with_a_release_that_is_bad_itself(written: Filed) -> None:
    with pytest.raises(Refused, match="itself what is to blame"):
        invalidate(_world(written), _wish(written, rescore=True, good=written.bad.short))
    wish = Wish(Blame(model="demand", version="6"), "ada", rescore=True)
    with pytest.raises(Refused, match="itself what is to blame"):
        invalidate(_world(written), wish)
    assert _bad(written) == set()
    with closing(sqlite3.connect(written.root / ".ebbtide/journal.db")) as database, database:
        database.execute("PRAGMA foreign_keys = OFF")
        values = ("shop", written.good.id, "release", "poisoned", "none", 1)
        database.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?)", values)
    with pytest.raises(Quarantined, match="poisoned"):
        invalidate(_world(written), _wish(written, rescore=True))
    assert _bad(written) == set()


def test_without_a_function_of_its_own_it_stays_recalled_and_says_so(written: Filed) -> None:
    with_file(written, outputs={QUOTES: {"path": QUOTES}})
    outcome = invalidate(_world(written), _wish(written, rescore=True))
    assert "Nothing scores output" in outcome.failures["quotes d1"]
    with_file(written, outputs={QUOTES: {"path": QUOTES, "rescore": "no_such.module:thing"}})
    outcome = invalidate(_world(written), _wish(written, rescore=True))
    assert "cannot be loaded" in outcome.failures["quotes d1"]
    with_file(written, outputs={QUOTES: {"path": QUOTES, "rescore": "no function"}})
    with pytest.raises(BadConfiguration, match="rescore"):
        _world(written)


@pytest.mark.parametrize("cluster", ["threads", "made for it", "by its address"])
def test_the_command_line_scores_where_the_system_file_says(filed: Filed, cluster: str) -> None:
    for n in range(6):
        filed.write(f"d{n}", "nightly", filed.bad)
    with _workers(cluster) as (workers, addresses):
        with_file(filed, workers=workers)
        words = ("--release", filed.bad.short, "--rescore", "--yes", "--json")
        told = json.loads(_typed(filed, *words).stdout)
        assert (told["new"], told["rescored"], told["waiting"]) == (6, 6, 0), told["failures"]
        again = json.loads(_typed(filed, *words).stdout)
        assert (again["new"], again["rescored"]) == (0, 0)
    rows = outputs.read(_world(filed), QUOTES, consumer="test").read_all().to_pylist()
    scored_by = {row["worker"] for row in rows}
    if cluster == "threads":
        assert scored_by == {""}
    else:
        assert all(scored_by) and (not addresses or scored_by <= addresses)
    assert {row["_release"] for row in rows} == {filed.good.id}


def test_a_scheduler_that_is_away_keeps_nothing_from_being_recalled(written: Filed) -> None:
    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}):
        with_file(written, workers={"kind": "dask", "address": "tcp://127.0.0.1:9"})
        spread = spread_of("shop", written.folder)
        outcome = invalidate(_world(written), _wish(written, rescore=True), spread)
    assert set(_prices(written)) == {"d4"} and outcome.reached
    assert outcome.rescored == 0 and len(outcome.failures) == 3
    assert all("tcp://127.0.0.1:9" in why for why in outcome.failures.values())


def test_a_worker_that_cannot_score_says_which_partition_and_why(written: Filed) -> None:
    with_file(written, outputs={QUOTES: {"path": QUOTES, "rescore": FAILING}})
    with_file(written, workers={"kind": "dask", "count": 1})
    spread = spread_of("shop", written.folder)
    outcome = invalidate(_world(written), _wish(written, rescore=True), spread)
    assert outcome.failures == {"quotes d1": "RuntimeError: no inputs for d1"}
    assert outcome.rescored == 2


@contextmanager
def _workers(cluster: str) -> Iterator[tuple[dict[str, Any], set[str]]]:
    """What a system file says of them; the addresses of the workers, where they are known."""
    if cluster != "by its address":
        kind = "threads" if cluster == "threads" else "dask"
        yield {"kind": kind, "count": 2}, set()
        return
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as running:  # type: ignore[no-untyped-call]  # Dask has no types here
        addresses = {nanny.worker_address for nanny in running.workers.values()}
        yield {"kind": "dask", "address": running.scheduler_address}, addresses


def _typed(filed: Filed, *words: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the workers of a cluster import what the command is."""
    run = [sys.executable, "-m", "ebbtide", "invalidate", "shop", *words]
    return subprocess.run(
        [*run, "--systems", str(filed.folder)],
        env=same_imports(),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )


def test_the_command_line_recalls_and_scores_and_shows(written: Filed) -> None:
    def run(*words: str) -> tuple[int, str]:
        found = CliRunner().invoke(app, [*words, "--systems", str(written.folder)])
        if found.exception and not isinstance(found.exception, SystemExit):
            raise found.exception
        return found.exit_code, found.output

    with pytest.raises(Refused, match="Nobody is there to ask"):
        run("invalidate", "shop", "--release", written.bad.short)
    assert _bad(written) == set()
    code, said = run(
        "invalidate", "shop", "--release", written.bad.short, "--rescore", "--yes", "--json"
    )
    told = json.loads(said)
    assert (code, told["new"], told["rescored"], told["waiting"]) == (0, 3, 3, 0)
    assert {each["consumer"] for each in told["consumers"]} == {"mailer", "ledger-team"}
    code, said = run("invalidate", "shop", "--model", "demand=7", "--yes")
    assert code == 0
    assert "3 parts are invalid, 0 of them newly" in said
    code, said = run("outputs", "shop", "--json")
    told = json.loads(said)
    assert {(part["partition"], part["state"]) for part in told["parts"]} == {
        (name, "valid") for name in ("d1", "d2", "d3", "d4")
    }
    assert told["consumers"] == {QUOTES: {"mailer": "desk 7", "ledger-team": "desk 4"}}
    code, said = run("outputs", "shop", "--all")
    assert "invalid, replaced" in said
    assert "mailer" in said and "desk 4" in said
