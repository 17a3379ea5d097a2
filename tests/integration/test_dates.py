"""A date for a version: by the commits' own times, held against the journal, never guessed."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from ebbtide.core.dating import resolve
from ebbtide.core.errors import NotRestorable, Refused, Unknown
from ebbtide.entrypoints.cli import options
from ebbtide.entrypoints.cli.data import with_versions
from ebbtide.entrypoints.cli.main import app
from tests.leased_tables import (  # noqa: F401 - fixtures
    Leased,
    built,
    leased,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

DAY = datetime(2026, 11, 1, tzinfo=UTC)
"""Commit `n` of `rides` is made to be of the n-th hour of that day."""


@pytest.fixture(autouse=True)
def dated(leased: Leased) -> None:
    for n in range(3):
        say(leased, n, hours(n))


def hours(n: float) -> float:
    return (DAY + timedelta(hours=n)).timestamp()


def say(leased: Leased, version: int, moment: float | None) -> None:
    """Let a commit of `rides` say that it is of another time, or of none."""
    file = leased.at("rides") / "_delta_log" / f"{version:020}.json"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if "commitInfo" in line:
            line["commitInfo"].pop("timestamp", None)
            line["commitInfo"] |= {} if moment is None else {"timestamp": int(moment * 1000)}
    file.write_text("\n".join(map(json.dumps, lines)))


def version(leased: Leased, moment: float) -> int:
    return leased.tables.dated("rides", moment).version


@pytest.mark.parametrize(("hour", "expected"), [(0, 0), (0.9, 0), (1, 1), (1.5, 1), (2, 2), (9, 2)])
def test_a_moment_is_the_version_that_was_newest_then(
    leased: Leased, hour: float, expected: int
) -> None:
    assert version(leased, hours(hour)) == expected
    assert leased.tables.dated("rides", hours(hour)).committed == hours(expected)


def test_the_times_of_files_do_not_matter(leased: Leased) -> None:
    for file in (leased.at("rides") / "_delta_log").iterdir():
        os.utime(file, (hours(-99), hours(-99)))
    assert version(leased, hours(1.5)) == 1


def test_a_time_of_the_commit_itself_goes_before_the_writers(leased: Leased) -> None:
    file = leased.at("rides") / "_delta_log" / f"{1:020}.json"
    stamped = f'"commitInfo": {{"inCommitTimestamp": {int(hours(1.75) * 1000)}, '
    file.write_text(file.read_text().replace('"commitInfo": {', stamped))
    assert (version(leased, hours(1.5)), version(leased, hours(1.75))) == (0, 1)


def test_before_the_first_commit_it_is_refused(leased: Leased) -> None:
    with pytest.raises(Refused, match="before the first commit of table `rides`"):
        version(leased, hours(-1))


def test_where_the_log_was_cleaned_up_it_is_not_guessed(leased: Leased) -> None:
    DeltaTable(leased.at("rides")).create_checkpoint()
    (leased.at("rides") / "_delta_log" / f"{0:020}.json").unlink()
    assert version(leased, hours(1.5)) == 1
    with pytest.raises(NotRestorable, match="begins at version 1"):
        version(leased, hours(0.5))


def test_where_clocks_disagree_it_is_refused(leased: Leased) -> None:
    say(leased, 0, hours(1.8))
    with pytest.raises(Refused, match="clocks"):
        version(leased, hours(1.5))
    assert version(leased, hours(1.9)) == 1


def test_a_commit_that_does_not_say_when_is_refused(leased: Leased) -> None:
    say(leased, 1, None)
    assert version(leased, hours(2)) == 2
    with pytest.raises(Refused, match="Version 1 of table `rides` does not say"):
        version(leased, hours(1.5))


def test_what_the_journal_knows_better_is_refused(leased: Leased) -> None:
    """A release that was recorded by then pins a version that the log says came later."""
    now = leased.world.journal.now()
    assert resolve(leased.world, "rides", now).dated.version == 2
    say(leased, 2, now + 3600)
    with pytest.raises(Refused, match=f"release {leased.bad.short} was recorded before"):
        resolve(leased.world, "rides", leased.world.journal.now())
    with pytest.raises(Refused, match="yet to come"):
        resolve(leased.world, "rides", now + 3000)


def test_the_journal_tells_who_served_then(leased: Leased) -> None:
    served = leased.world.journal.tenures("fake")[0].since
    found = resolve(leased.world, "rides", served)
    assert (found.release, found.pinned) == (leased.bad.short, "2")
    assert resolve(leased.world, "rides", hours(1.5)).release == ""


def asked(leased: Leased, tables: Mapping[str, str], yes: bool = False) -> dict[str, str]:
    return with_versions(leased.world, tables, yes=yes, quiet=False)


def test_a_person_sees_the_version_and_numbers_are_left_alone(
    leased: Leased, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = {"rides": "2026-11-01T01:30", "zones": "1"}
    assert asked(leased, tables) == {"rides": "1", "zones": "1"}
    shown = " ".join(capsys.readouterr().out.split())
    assert "rides at 2026-11-01T01:30 is version 1, committed 2026-11-01 01:00:00Z." in shown
    assert asked(leased, {"rides": "2026-11-01T03:30+02:00"}) == {"rides": "1"}
    assert asked(leased, {"rides": "0", "zones": "latest"}, yes=True)["zones"] == "latest"


def test_where_nobody_is_asked_the_version_has_to_be_named(leased: Leased) -> None:
    with pytest.raises(Refused) as refused:
        asked(leased, {"rides": "2026-11-01T01:30"}, yes=True)
    assert "rides=1@2026-11-01T01:30" in refused.value.remedy
    assert asked(leased, {"rides": "1@2026-11-01T01:30"}, yes=True) == {"rides": "1"}
    for yes in (True, False):
        with pytest.raises(Refused, match="is version 1 of rides, not 0"):
            asked(leased, {"rides": "0@2026-11-01T01:30"}, yes=yes)


@pytest.mark.parametrize("ask", ["2026-13-01", "2026-11-01T99:00", "1@2026-11", "2026-yesterday"])
def test_what_is_no_date_is_refused(leased: Leased, ask: str) -> None:
    with pytest.raises(Refused, match="is no date"):
        asked(leased, {"rides": ask})


def test_a_table_that_is_not_there_is_unknown(leased: Leased) -> None:
    with pytest.raises(Unknown, match="No table `drivers`"):
        asked(leased, {"drivers": "2026-11-01"})


def test_a_plan_takes_a_date(leased: Leased, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "open_world", lambda *_: leased.world)
    order = ["plan", "data", "fake", "--table", "rides=2026-11-01T01:30", "--json"]
    told: dict[str, Any] = json.loads(CliRunner().invoke(app, order).stdout)
    (pin,) = [p for p in told["recipe"]["layers"]["data"] if p["name"] == "rides"]
    assert pin["at"]["version"] == "1"


def test_left_rows_are_exported_by_the_command(
    leased: Leased, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(options, "open_world", lambda *_: leased.world)
    one, two = (leased.tables.pin("rides", version) for version in ("2", "1"))
    saga = leased.world.journal.sagas("fake")[0].id
    leased.tables.keep_left(one, two, saga)
    to = tmp_path / "rides.parquet"
    words = ["export-rows", "fake", "rides", "--saga", saga[:8], "--to", str(to)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "2 rows of rides are in" in done.stdout, done
    assert to.is_file()
