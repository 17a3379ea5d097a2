"""Two small systems of one repository and journal: each goes back whole, then by a model alone.

The incidents are played once, by public commands only.
"""

from collections.abc import Mapping

import pytest

from tests.acceptance.bikes.commands import asked
from tests.acceptance.bikes.small import TWO_LAYERS, TWO_MODELS, Played, play

pytestmark = pytest.mark.timeout(600)  # of the first test, that waits for both incidents


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Played]:
    return play(tmp_path_factory.mktemp("small") / "bikes")


@pytest.fixture(params=[TWO_LAYERS.system, TWO_MODELS.system])
def small(request: pytest.FixtureRequest, played: Mapping[str, Played]) -> Played:
    return played[request.param]


def test_a_small_system_goes_back_whole_then_by_a_model_alone(small: Played) -> None:
    assert small.shown["bad"] == small.as_released(3)
    assert small.shown["rolled back"] == small.as_released(2)
    assert {saga["state"] for saga in small.sagas.values()} == {"completed"}
    after, before = small.shown["model rolled back"], small.as_released(2)
    assert after == {"models": small.small.afterwards, "folder": before["folder"]}


def test_no_request_to_a_small_system_failed_and_none_was_mixed(small: Played) -> None:
    expected, asking = small.expected(), small.clients
    v2, v3 = small.releases[2], small.releases[3]
    assert asking.failed() == []
    assert asking.mixed(expected) == []
    assert asking.releases() == [v3, v2, small.composed]
    assert len(asking.mixed({**expected, v2: expected[v3]})) > 0


def test_two_systems_of_one_journal_do_not_move_each_other(small: Played) -> None:
    live = {each["system"]: each["live"] for each in asked("status", cwd=small.folder)}
    assert live.keys() == {TWO_LAYERS.system, TWO_MODELS.system}
    assert live[small.small.system] == small.composed
