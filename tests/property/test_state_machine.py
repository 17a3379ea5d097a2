"""Anything may happen to a system, in any order: the invariants hold, and the model is met.

`make soak` does the same by the thousand; here a few runs, the same each time.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from ebbtide.core.engine import Engine
from tests.memory import folder_in_memory
from tests.property import soak
from tests.property.tally import Tally
from tests.property.trials import Pick, Trials

SEED = 5


class Machine(RuleBasedStateMachine):
    """Hypothesis chooses what happens next, and every detail of it."""

    tally = Tally()

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="ebbtide-", dir=folder_in_memory())
        self.system = Trials(Path(self._folder.name), self.tally)

    def teardown(self) -> None:
        try:
            self.system.settle()
        finally:
            self.system.close()
            self._folder.cleanup()


def _rule(thing: Callable[[Trials, Pick], None]) -> Callable[..., None]:
    def happens(machine: Machine, data: st.DataObject) -> None:
        thing(machine.system, lambda among: data.draw(st.sampled_from(among)))

    happens.__name__ = thing.__name__
    return rule(data=st.data())(happens)


for _, _thing in soak.CHANCES:
    setattr(Machine, _thing.__name__, _rule(_thing))


def test_whatever_happens_the_invariants_hold() -> None:
    Machine.tally = Tally()
    few = settings(
        max_examples=10,
        stateful_step_count=8,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    print(f"seed {SEED}")
    run_state_machine_as_test(seed(SEED)(Machine), settings=few)
    assert Machine.tally.ended.total() > 15, "it did next to nothing"


def test_a_seed_is_one_run_each_time() -> None:
    first, second = Tally(), Tally()
    assert soak.run(3, 6, first) == soak.run(3, 6, second) == []
    assert first == second and first.ended.total() > 1


def test_a_take_back_that_is_skipped_is_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take_back = Engine._take_back

    def skips(engine: Engine, record, row, move, lease) -> str:  # type: ignore[no-untyped-def]  # noqa: ANN001
        if row.name == "settings.publish_config":
            return ""
        return take_back(engine, record, row, move, lease)

    monkeypatch.setattr(Engine, "_take_back", skips)
    found = (soak.run(seed, 12, Tally()) for seed in range(1, 40))
    assert "I2" in next((each for each in found if each), [])
    assert "BROKEN" in capsys.readouterr().out
