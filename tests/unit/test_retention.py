"""What is kept, and why: the journal's facts alone decide, and doubt keeps."""

from dataclasses import replace
from math import nan
from typing import Any

import pytest

from ebbtide.core.retention import (
    Facts,
    Rule,
    retained,
)
from ebbtide.core.saga import Level, Saga, SagaState
from ebbtide.core.tenure import Tenure

NOW = 1_000 * 86400.0
DAY, HOUR = 86400.0, 3600.0
RULE = Rule()
OLD = NOW - 200 * DAY
NAMES = [f"r{n}" for n in range(12)]
FACTS = Facts(
    now=NOW, recorded=dict.fromkeys(NAMES, OLD), pins={name: {f"d-{name}"} for name in NAMES}
)


def kept(rule: Rule = RULE, **facts: Any) -> set[str]:
    return set(retained(rule, replace(FACTS, **facts)))


def tenure(release: str, until: float | None) -> Tenure:
    return Tenure(release, 1, "s", OLD, until, proved=True)


def saga(**plan: str) -> Saga:
    return Saga("s", "shop", Level.DATA, "r1", "r2", 1, SagaState.OPEN, plan, "", "ada", "", OLD)


def test_with_no_reason_nothing_is_kept() -> None:
    assert kept() == set()


@pytest.mark.parametrize("asked", [0, 3, 5, 7])
def test_the_last_five_proved_are_kept_whatever_the_rule_says(asked: int) -> None:
    last = max(asked, 5)
    assert kept(replace(RULE, proved=asked), proved=NAMES) == set(NAMES[:last])
    assert kept(replace(RULE, proved=asked), good=NAMES) == set(NAMES[:last])


def test_what_was_taken_back_within_the_hour_pushes_no_good_release_out() -> None:
    assert kept(proved=NAMES[:6], good=NAMES[6:]) == set(NAMES[:5]) | set(NAMES[6:11])


def test_refreshes_push_no_other_release_out() -> None:
    refreshes = {f"r{n}": f"r{n + 1}" for n in range(8)}
    found = kept(proved=NAMES, good=NAMES, refreshes=refreshes)
    assert found == {"r0", "r1", "r2", "r3", "r4", "r9", "r10", "r11"}, "r8 is r0's family"


def test_a_circle_of_refreshes_ends() -> None:
    assert kept(good=["r0", "r1"], refreshes={"r0": "r1", "r1": "r0"}) == {"r0", "r1"}


@pytest.mark.parametrize(
    ("at", "is_kept"),
    [(NOW - 89 * DAY, True), (NOW - 90 * DAY, False), (NOW + DAY, True), (nan, True)],
)
def test_the_young_are_kept_and_those_of_unknown_age(at: float, is_kept: bool) -> None:
    assert (kept(recorded={"r0": at}) == {"r0"}) is is_kept


@pytest.mark.parametrize(
    ("until", "is_kept"),
    [(None, True), (NOW - 71 * HOUR, True), (NOW - 72 * HOUR, False), (nan, True)],
)
def test_what_served_lately_cools_down(until: float | None, is_kept: bool) -> None:
    assert (kept(tenures=[tenure("r0", until)]) == {"r0"}) is is_kept


def test_an_unfinished_saga_keeps_all_that_it_speaks_of() -> None:
    assert kept(newest=saga(base="r3", safe="r4")) == {"r1", "r2", "r3", "r4"}
    assert kept(newest=saga()) == {"r1", "r2"}


def test_what_is_live_or_warm_is_kept() -> None:
    assert kept(route={"r1": "live", "r2": "candidate"}, warm={"r3": "one"}) == {"r1", "r2", "r3"}


@pytest.mark.parametrize("digest", ["r0", "d-r0"])
def test_what_was_quarantined_lately_is_kept_for_the_review(digest: str) -> None:
    assert kept(denied={digest: NOW - 89 * DAY}) == {"r0"}
    assert kept(denied={digest: NOW - 91 * DAY}) == set()


def test_every_reason_is_told_once() -> None:
    facts = replace(FACTS, proved=["r0"], good=["r0"], route={"r0": "live"}, warm={"gone": "one"})
    assert retained(RULE, facts) == {"r0": ("live", "one of the last 5 proved")}
