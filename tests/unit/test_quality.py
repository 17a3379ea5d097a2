"""A model that was trained anew is not taken where it is worse than the one before."""

import math
from typing import Any

import pytest

from ebbtide.core.gates import Verdict
from ebbtide.core.quality import Quality, as_good
from ebbtide.core.saga import Level, SagaState
from ebbtide.testing import FakeMaker
from flows.order import carry_out
from tests.conftest import Fakes


def _error(value: float | None, **about: Any) -> Quality:
    return Quality("error", value, **about)


@pytest.mark.parametrize(
    ("new", "known", "verdict"),
    [
        (_error(0.2), _error(0.2), Verdict.PASSED),
        (_error(0.1), _error(0.2), Verdict.PASSED),
        (_error(0.2099), _error(0.2), Verdict.PASSED),
        (_error(0.2101), _error(0.2), Verdict.FAILED),
        (_error(0.79, better="higher"), _error(0.8, better="higher"), Verdict.PASSED),
        (_error(0.7, better="higher"), _error(0.8, better="higher"), Verdict.FAILED),
        (_error(-1.04), _error(-1.0), Verdict.PASSED),
        (_error(-0.9), _error(-1.0), Verdict.FAILED),
        (_error(0.21, worse_by=0.0), _error(0.2, worse_by=0.0), Verdict.FAILED),
        (_error(math.nan), _error(0.2), Verdict.FAILED),
        (_error(math.inf, better="higher"), _error(0.2, better="higher"), Verdict.FAILED),
        (_error(None), _error(0.2), Verdict.INCONCLUSIVE),
        (None, _error(0.2), Verdict.INCONCLUSIVE),
        (_error(0.2), None, Verdict.INCONCLUSIVE),
        (_error(0.2), _error(None), Verdict.INCONCLUSIVE),
        (_error(0.2), _error(math.nan), Verdict.INCONCLUSIVE),
    ],
)
def test_only_what_is_known_to_be_as_good_passes(
    new: Quality | None, known: Quality | None, verdict: Verdict
) -> None:
    assert as_good("main", new, known).verdict is verdict


@pytest.fixture
def models(fakes: Fakes) -> FakeMaker:
    adapter = fakes.world.layers["model"]
    assert isinstance(adapter, FakeMaker)
    return adapter


def _trained_with(fakes: Fakes, models: FakeMaker, error: float | None) -> None:
    """Whatever is made from now on was measured so; what was released has 0.1."""
    make = models.make

    def measured(*about: Any) -> Any:
        made = make(*about)
        models.errors[made.digest] = error
        return made

    models.make = measured  # type: ignore[method-assign, assignment]  # the fake is told what it makes


@pytest.mark.parametrize("error", [0.2, math.nan, None])
def test_the_safe_release_goes_on_where_the_new_model_is_not_good_enough(
    fakes: Fakes, models: FakeMaker, error: float | None
) -> None:
    _trained_with(fakes, models, error)
    for attempt in ("trained", "found again by its lineage"):
        saga = carry_out(fakes.world, fakes.order(Level.FEATURES, base=_base(fakes, attempt)))
        assert saga.state is SagaState.TAKEN_BACK, attempt
        assert "quality.trained_as_well" in saga.why, attempt
        assert fakes.live() == fakes.good.id
    assert models.makings == 1


def test_a_model_as_good_as_before_is_taken_and_later_found_as_proved(
    fakes: Fakes, models: FakeMaker
) -> None:
    _trained_with(fakes, models, 0.104)
    saga = carry_out(fakes.world, fakes.order(Level.FEATURES))
    assert saga.state is SagaState.COMPLETED, saga.why
    (new,) = fakes.world.journal.release(fakes.live()).pins("model")
    models.errors[new.digest] = math.nan
    fakes.promote(fakes.good)
    again = carry_out(fakes.world, fakes.order(Level.FEATURES, base=fakes.bad.id))
    assert again.state is SagaState.COMPLETED, again.why
    finding = next(
        step
        for step in fakes.world.journal.steps(again.id)
        if step.name == "quality.trained_as_well"
    )
    assert "proved before" in finding.why


def _base(fakes: Fakes, attempt: str) -> str:
    """The first order goes from the bad release; then the good one serves already."""
    return "" if attempt == "trained" else fakes.bad.id
