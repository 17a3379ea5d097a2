"""The proof needs replicas that answer: where some are missing, it says which and what to do."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from ebbtide.core.gates import Finding, Verdict
from ebbtide.core.ports import World
from ebbtide.core.saga import Move
from flows.order import plan
from tasks.golden import answers_smoke_requests, same_golden_answers
from tests.conftest import Fakes

GATES = pytest.mark.parametrize("gate", [answers_smoke_requests, same_golden_answers])
Gate = Callable[[World, Move], Finding]


def asked(fakes: Fakes, gate: Gate, alive: list[str], demanded: int) -> Finding:
    """What a gate says of the live release with so many replicas."""
    fakes.world.serving.names = alive
    world = replace(fakes.world, policy=replace(fakes.world.policy, replicas=demanded))
    order = fakes.order()
    move = replace(plan(world, order).move("a saga", order), target=fakes.bad)
    return gate(world, move)


@GATES
def test_missing_replicas_are_named_with_the_remedy(fakes: Fakes, gate: Gate) -> None:
    none = asked(fakes, gate, [], 1)
    assert none.verdict is Verdict.INCONCLUSIVE
    assert none.why == "1 live replicas are expected; there are: none."
    assert none.remedy == "Start one: ebbtide serve fake."
    some = asked(fakes, gate, ["one"], 2)
    assert some.verdict is Verdict.INCONCLUSIVE and "there are: one" in some.why


@GATES
def test_enough_replicas_are_asked_and_none_where_none_are_demanded(
    fakes: Fakes, gate: Gate
) -> None:
    assert asked(fakes, gate, ["one", "two"], 2).passed
    assert asked(fakes, gate, [], 0).passed
