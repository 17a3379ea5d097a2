"""For your own tests: fakes that pass the contract, harnesses that prove steps and layers,
deaths at named points, and the invariants that hold after them."""

from ebbtide.testing.deaths import Deaths, Died, dying, killed_at
from ebbtide.testing.effects import FakeReceivers
from ebbtide.testing.fakes import (
    FakeCache,
    FakeContents,
    FakeKept,
    FakeLayer,
    FakeMaker,
    FakeScorer,
    FakeServing,
    FakeTables,
    FakeWorld,
    fake_world,
)
from ebbtide.testing.harness import round_trip, standing
from ebbtide.testing.invariants import LAWS, Seen, broken, seen
from ebbtide.testing.layers import layer_contract

__all__ = [
    "LAWS",
    "Deaths",
    "Died",
    "FakeCache",
    "FakeContents",
    "FakeKept",
    "FakeLayer",
    "FakeMaker",
    "FakeReceivers",
    "FakeScorer",
    "FakeServing",
    "FakeTables",
    "FakeWorld",
    "Seen",
    "broken",
    "dying",
    "fake_world",
    "killed_at",
    "layer_contract",
    "round_trip",
    "seen",
    "standing",
]
