"""A refresh that dies at any of its points, the release before included, and is ordered again.

In process, on the fakes and a real journal, as in `test_every_point_in_memory`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ebbtide.core.release import Release
from ebbtide.core.saga import Level
from ebbtide.testing import Died, FakeLayer, FakeWorld, broken, dying
from flows.order import carry_out
from flows.refreshing import Refreshed, refresh
from flows.unfinished import finish
from tests.conftest import Fakes, one_after_another, promoted_in

TODAY = "3"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a system whose releases were trained on its one table."""
    return promoted_in(tmp_path_factory.mktemp("trained"), _of_training_data)


@pytest.fixture
def fresh(tmp_path: Path, trained: Path) -> Iterator[Callable[[], Fakes]]:
    """Systems of their own, as many as are asked for, whose table has grown."""
    with one_after_another(tmp_path, trained, _of_training_data) as make:

        def grown() -> Fakes:
            made = make()
            _data(made.world).newest = TODAY
            return made

        yield grown


def test_what_dies_in_a_refresh_is_finished_and_ordered_again(fresh: Callable[[], Fakes]) -> None:
    with dying() as deaths:
        _refreshed(fresh())
    of_the_saga, points = deaths.passed.index("saga/closed"), len(deaths.passed)
    assert points > of_the_saga + 1, "the release before is recorded after it"
    # The rows are those of other levels, which die at each of their points elsewhere.
    for n in (*range(1, of_the_saga, 4), *range(of_the_saga, points + 1)):
        system = fresh()
        with dying(at=f"#{n}"), pytest.raises(Died):
            _refreshed(system)
        system.expire()
        finish(system.world, by="tester")
        again = _refreshed(system)
        assert again.moved and not again.why, f"#{n}: {again.said}"
        _judge(system, again, f"#{n}")


def _of_training_data(world: FakeWorld) -> None:
    _data(world)._at = lambda _version: {"role": "training"}


def _data(world: FakeWorld) -> FakeLayer:
    found = world.layers["data"]
    assert isinstance(found, FakeLayer)
    return found


def _refreshed(system: Fakes) -> Refreshed:
    order = system.order(Level.REFRESH)
    return refresh(system.world, partial(carry_out, system.world, order), by="tester")


def _judge(system: Fakes, again: Refreshed, point: str) -> None:
    """What serves and what it would go back to are of today, once each; all else is as it was."""
    journal = system.world.journal
    live, before = journal.release(system.live()), journal.release(again.before)
    assert (_day(live), _day(before)) == (TODAY, TODAY), point
    assert live.pins("model") == system.bad.pins("model"), point
    assert before.pins("model") == system.good.pins("model"), point
    assert len(journal.releases("fake")) == 4, f"{point}: one of each was recorded"
    assert broken(system.world) == {}, point
    assert journal.abandoned() == [], point


def _day(release: Release) -> str:
    (pin,) = release.pins("data")
    return str(pin.at["version"])
