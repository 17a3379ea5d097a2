"""Marks that are owed: recalled while the table was away, and marked once it is back."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ebbtide import outputs
from ebbtide.bootstrap import open_world
from ebbtide.core.errors import Unreachable
from ebbtide.core.outputs import Blame, PartState
from ebbtide.core.paying import owed
from ebbtide.core.planner import Order
from ebbtide.core.readiness import examine
from ebbtide.core.saga import Level
from ebbtide.entrypoints.cli.main import app
from flows.levels import STEPS
from flows.order import carry_out
from flows.recalls import Wish, invalidate
from flows.unfinished import pay
from tests.integration.journal_fixtures import same_imports
from tests.integration.outputs_fixtures import (  # noqa: F401 - fixtures
    QUOTES,
    Filed,
    Shop,
    filed,
    shop,
    with_file,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


@contextmanager
def away(table: Path) -> Iterator[None]:
    """The table's store is gone, for who reads it and for who writes it."""
    log = table / "_delta_log"
    log.rename(log.with_name("away"))
    log.symlink_to(log)  # every look into it is an error of the disk
    yield
    log.unlink()
    log.with_name("away").rename(log)


def rolled_back(shop: Shop) -> None:
    saga = carry_out(shop.world, Order(Level.SYSTEM, by="tester", to=shop.good.id))
    assert saga.state == "completed", saga.left


def test_a_mark_that_is_owed_is_paid_and_nobody_saw_the_bad_rows_meanwhile(shop: Shop) -> None:
    shop.write("d1", "by-good", release=shop.good.id)
    shop.write("d2", "by-bad")
    with away(shop.root / QUOTES):
        rolled_back(shop)
        assert owed(shop.world) == ["output quotes: 1 recalled parts are not marked in its table"]
        with pytest.raises(Unreachable):
            shop.seen()
        (line,) = pay(shop.world, by="tester")
        assert line.startswith("still owed: output quotes: ") and "cannot be reached" in line
    assert shop.table()["d2"] == [("by-bad", True, 3)], "it came back as it was"
    assert shop.partitions() == {"d1"}
    assert pay(shop.world, by="tester") == ["paid: output quotes: 1 parts are marked"]
    assert shop.table() == {"d1": [("by-good", True, 3)], "d2": [("by-bad", False, 3)]}
    assert shop.partitions() == {"d1"}
    assert owed(shop.world) == pay(shop.world, by="tester") == []
    assert not shop.world.journal.verify()


def test_rows_of_a_killed_job_that_landed_after_the_recall_are_found_and_marked(
    shop: Shop,
) -> None:
    run = outputs.start(shop.world, "killed")
    landed = shop.world.journal.begin_part(run, QUOTES, "d1")
    shop.world.journal.begin_part(run, QUOTES, "d2")
    rolled_back(shop)
    assert owed(shop.world) == pay(shop.world, by="tester") == [], "nothing is known to stand there"
    assert shop.world.outputs
    shop.world.outputs.write(landed, [{"id": 1, "price": 1.0}])
    assert shop.seen() == []
    assert pay(shop.world, by="tester") == ["paid: output quotes: 1 parts are marked"]
    assert shop.table() == {"d1": [("killed", False, 1)]}
    assert pay(shop.world, by="tester") == []


def test_a_table_that_was_lost_stays_owed_until_a_person_says_so(shop: Shop) -> None:
    shop.write("d1", "by-bad")
    with away(shop.root / QUOTES):
        rolled_back(shop)
    (shop.root / QUOTES).rename(shop.root / "elsewhere")
    (line,) = pay(shop.world, by="tester")
    assert "shows nothing" in line and "take the output out of the system file" in line
    assert pay(replace(shop.world, outputs=None), by="tester") == []
    (shop.root / "elsewhere").rename(shop.root / QUOTES)
    assert pay(shop.world, by="tester") == ["paid: output quotes: 1 parts are marked"]


def test_one_table_that_is_away_keeps_no_other_from_its_mark(filed: Filed) -> None:
    with_file(filed, outputs={QUOTES: {"path": QUOTES}, "ranks": {"path": "ranks"}})
    filed.write("d1", "nightly", filed.bad)
    world = open_world("shop", filed.folder)
    outputs.write(world, "ranks", "d1", [{"id": 1}], run="nightly", release=filed.bad.id)
    wish = Wish(Blame(release=filed.bad.id), "ada", "bad prices")
    with away(filed.root / QUOTES):
        outcome = invalidate(world, wish)
        assert {part.state for part in outcome.parts} == {PartState.INVALID}
        assert list(outcome.owed) == [QUOTES] and outcome.failures == {}
        assert filed.ledger("output, marked") == [(QUOTES, 0), ("ranks", 1)]
        scored = invalidate(world, replace(wish, rescore=True))
        assert set(scored.failures) == {QUOTES, "ranks d1"}
        assert "cannot be reached" in scored.failures[QUOTES]
    assert pay(world, by="tester") == ["paid: output quotes: 1 parts are marked"]
    assert filed.table() == {"d1": [("nightly", False, 4)]}


def test_the_commands_say_what_is_owed_and_pay_it(filed: Filed) -> None:
    filed.write("d1", "nightly", filed.bad)

    def typed(*words: str) -> str:
        run = [sys.executable, "-m", "ebbtide", *words, "--systems", str(filed.folder)]
        found = subprocess.run(
            run, env=same_imports(), capture_output=True, text=True, check=True, timeout=120
        )
        return found.stdout + found.stderr

    with away(filed.root / QUOTES):
        said = typed("invalidate", "shop", "--release", filed.bad.short, "--yes")
        assert "Not marked yet: quotes" in said and "ebbtide recover shop" in said
        (status,) = json.loads(
            CliRunner().invoke(app, ["status", "--json", "--systems", str(filed.folder)]).stdout
        )
        assert status["owed"] == ["output quotes: 1 recalled parts are not marked in its table"]
        assert "still owed: output quotes" in typed("recover", "shop")
    world = open_world("shop", filed.folder)
    checks = [check.why for check in examine(world, STEPS).checks if check.what == "owed"]
    assert checks and "ebbtide recover shop" in checks[0]
    assert "paid: output quotes: 1 parts are marked" in typed("recover", "shop")
    assert "owed" not in typed("status", "shop")
    assert filed.table() == {"d1": [("nightly", False, 4)]}
