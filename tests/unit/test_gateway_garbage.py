"""What a serving process loaded is not looked through again while it answers."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from ebbtide.entrypoints.gateway import garbage


class Part:
    """Of a release."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def is_looked_at(part: Part) -> bool:
    return any(each is part for each in gc.get_objects())


def test_what_was_loaded_is_not_looked_at_any_more() -> None:
    garbage.begin()
    loaded = Part()
    assert is_looked_at(loaded)
    garbage.settle()
    assert not is_looked_at(loaded)


def test_what_loading_left_behind_is_gone_and_what_was_let_go_goes_with_the_next() -> None:
    garbage.begin()
    left, loaded = Part(), Part()
    left_, loaded_ = weakref.ref(left), weakref.ref(loaded)
    del left
    garbage.settle()
    assert left_() is None
    del loaded
    garbage.settle()
    assert loaded_() is not None
    garbage.settle(let_go=True)
    assert loaded_() is None


def test_a_process_with_other_work_is_let_alone() -> None:
    loaded = Part()
    garbage.settle()
    assert gc.get_freeze_count() == 0
    assert is_looked_at(loaded)
