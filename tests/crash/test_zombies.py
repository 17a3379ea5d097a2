"""A process that sleeps past its lease and wakes: it writes nothing any more, anywhere."""

import pytest

from tests.crash.production import Production

FENCED = 6
"""The exit code of `Fenced`."""


@pytest.mark.parametrize(
    ("journey", "asleep"),
    [
        ("system", "saga/opened"),
        ("system", "route.switch/do/intent-written"),
        ("system", "data.restore_tables/do/intent-written"),
        ("system", "model.repoint_alias/do/intent-written"),
        ("system", "models.move/tagged"),
        ("system", "files.replace_link/made#2"),
        ("system", "cache.start_epoch/do/intent-written"),
        ("system", "writers.hold/raised"),
        ("taken back", "data.restore_tables/undo/intent-written"),
        ("taken back", "writers.hold/undo/intent-written"),
        ("taken back", "cache.leave_epoch/undo/intent-written"),
    ],
)
def test_it_wakes_and_writes_nothing(production: Production, journey: str, asleep: str) -> None:
    order = production.journeys[journey]
    with production.asleep(order, asleep) as zombie:
        recovered = production.recover()
        assert recovered.code == 0, recovered.out
        before, entries = production.oracle.everything(), production.entries()
        zombie.go_on()
        ended = zombie.ended()
    assert ended.code == FENCED, ended.out
    assert "not this process's to write any more" in ended.out
    assert production.oracle.everything() == before
    assert production.entries() == entries
    expected = "refused" if asleep == "saga/opened" else "taken back"
    assert production.settled(order) == (expected, {})


def test_a_restore_that_slept_in_the_very_call_is_rejected_by_the_table(
    production: Production,
) -> None:
    """It asked for its lease before it fell asleep: the table's own version keeps it out."""
    order = production.journeys["system"]
    with production.asleep(order, "tables.move/about-to-restore") as zombie:
        assert production.recover().code == 0
        before = production.oracle.everything()
        zombie.go_on()
        assert zombie.ended().code == FENCED
    assert production.oracle.everything() == before
    assert production.settled(order) == ("taken back", {})
