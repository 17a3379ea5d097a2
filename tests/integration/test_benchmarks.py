"""The benchmarks' arguments and arithmetic. What they measure is measured by `make bench`."""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import __main__ as every
from benchmarks import availability, client, cold, gateway, growth, invalidate, rollback
from benchmarks.common import Bar, Grid, Report, finish, percentile, ratio, spread
from reference.ride_pricing.oracle import Verdict
from reference.ride_pricing.traffic import Served


@pytest.mark.parametrize(
    "program", [availability, rollback, cold, gateway, growth, invalidate, every]
)
def test_every_program_says_what_it_measures(
    program: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "--quick" in said
    assert (program.__doc__ or "?").splitlines()[0] in said


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert percentile(values, 0.99) == 99
    assert percentile(values, 0.07) == 7
    assert percentile(values, 1) == 100
    assert percentile(values, 0) == 1
    assert percentile(values[:50], 0.99) == 100  # of few, the largest
    assert math.isnan(percentile([], 0.5))
    with pytest.raises(ValueError, match="between 0 and 1"):
        percentile(values, 99)


def test_a_bar_is_met_at_its_limit_and_never_by_what_is_not_there() -> None:
    assert Bar("p99", 250, 250).met
    assert not Bar("p99", 250.1, 250).met
    assert Bar("rate", 200, 200, at_least=True).met
    assert not Bar("rate", 199, 200, at_least=True).met
    assert not Bar("p99", float("nan"), 250).met
    assert not Bar("rate", float("inf"), 200, at_least=True).met
    assert math.isnan(ratio(1, 0))


def test_a_missed_bar_fails_a_full_run_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report("one", "How.", quick=False, bars=[Bar("p99", 3, 2, "s")])
    assert finish(report, tmp_path / "one.json") == 1
    assert "MISSED" in capsys.readouterr().out
    assert json.loads((tmp_path / "one.json").read_text())["bars"][0]["met"] is False
    assert finish(Report("one", "How.", quick=True, bars=report.bars), None) == 0


def test_the_page_of_results_names_the_machine_by_nothing_but_its_kind() -> None:
    grid = Grid("Times", ("", "n"), (("saga", "3"),))
    report = Report("one", "How.", False, [grid], [Bar("p99", 1, 2, "s")], plot="one.png")
    page = every.results([json.loads(json.dumps(report.to_json()))])
    assert "Bars met: 1 of 1." in page
    assert "| saga | 3 |" in page
    assert "| p99 | <= 2 s | 1 s | met |" in page
    assert "![one](plots/one.png)" in page
    assert "- cores: " in page
    assert str(Path.home()) not in page


def test_the_spread_of_nothing_is_shown_as_nothing() -> None:
    assert spread([]) == ("0", "-", "-", "-")
    assert spread([0.001, 0.002, 0.003]) == ("3", "2.0", "3.0", "3.0")


def test_failed_and_mixed_requests_are_counted_as_the_client_judged_them() -> None:
    verdicts = [Verdict.SERVED, Verdict.FAILED, Verdict.MIXED, Verdict.SERVED, Verdict.SERVED]
    served = [
        Served(float(n), 0.01, 200, "1", "hit" if n else "miss", "r", verdict, verdict.value, None)
        for n, verdict in enumerate(verdicts)
    ]
    load = rollback.judged(served)
    assert (load.requests, load.failed, load.mixed, load.cached) == (5, 1, 1, 4)
    assert load.why == "failed"
    assert load.per_second == pytest.approx(5 / 4)
    assert not Bar("load", rollback.judged([]).per_second, 200, at_least=True).met


def served_at(*moments: float, seconds: float = 0.001) -> list[Served]:
    return [Served(at, seconds, 200, "1", "hit", "r", Verdict.SERVED, "", None) for at in moments]


def test_steady_is_just_before_an_order_and_during_from_order_to_end() -> None:
    rollbacks = [availability.Rollback(10.0, 10.1, 10.4), availability.Rollback(14.0, 14.1, 14.4)]
    served = served_at(8.9, 9.1, 10.0, 10.1, 10.4, 10.5, 12.9, 13.1, 14.2, 14.5, 17.0)
    assert [each.at for each in availability._steady(rollbacks, served)] == [9.1, 13.1]
    during = availability._during(rollbacks, served)
    assert [each.at for each in during] == [10.0, 10.1, 10.4, 14.2]


def test_p99_is_back_when_no_later_quarter_of_a_second_is_above_the_bar() -> None:
    rollbacks = [availability.Rollback(9.9, 10.0, 10.4)]
    fast, slow = served_at(9.9, 10.1, 10.3, 10.8), served_at(10.55, seconds=0.5)
    quarters = availability._binned(rollbacks, [*fast, *slow], 0.25, (0, 4.0))
    assert {place: len(found) for place, found in quarters.items()} == {0: 1, 1: 1, 2: 1, 3: 1}
    assert availability._back(quarters, 0.1) == 0.75
    assert availability._back(quarters, 0.5) == 0
    assert math.isnan(availability._back({0: slow}, 0.1))
    assert math.isnan(availability._back({}, 0.1))


def test_the_clients_requests_are_all_different_or_a_pool() -> None:
    unique = client.numbers(7, 0)
    assert len({client.body(next(unique)) for _ in range(1000)}) == 1000
    pool = client.numbers(0, 10)
    assert len({client.body(next(pool)) for _ in range(100)}) == 10


def test_written_sagas_are_history_and_a_rollback_still_works() -> None:
    with growth._pair() as pair:
        growth._write_history(pair, 40)
        with closing(sqlite3.connect(pair.journal)) as database:
            count = "SELECT count(*) FROM sagas WHERE state = 'completed'"
            assert database.execute(count).fetchone() == (43,)
            steps = "SELECT count(DISTINCT saga), count(*) > 40 * 10 FROM steps"
            assert database.execute(steps).fetchone() == (43, 1)
        point = growth._point(pair, 40, 1)
        assert 0 < point.plan < point.rollback
        found = pair.world.journal.sagas(pair.world.system, limit=1)[0]
        assert found.epoch == 4  # the two promotions, a rollback, and one before it
