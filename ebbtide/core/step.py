"""A row of the step table: what it does, how that is proved, and how it is taken back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import getdoc
from typing import Any, Generic, TypeVar

from ebbtide.core.gates import Finding
from ebbtide.core.ports import World
from ebbtide.core.release import Pin
from ebbtide.core.saga import Level, Move, Phase

M = TypeVar("M")

Do = Callable[[World, Move, M], None]
"""Given what was remembered, so that it changes only what it saw."""
Gate = Callable[[World, Move], Finding]
Undo = Callable[[World, Move, M], None]


@dataclass(frozen=True, slots=True)
class Compensatable(Generic[M]):
    """A do, and what it must remember before so that its undo can take it back."""

    do: Do[M]
    remember: Callable[[World, Move], M]
    memory: "Memory[M]"

    @property
    def name(self) -> str:
        return qualified(self.do)


@dataclass(frozen=True, slots=True)
class Memory(Generic[M]):
    """How what a step remembers goes into the journal and comes back."""

    dump: Callable[[M], Any]
    load: Callable[[Any], M]


Pins = Mapping[str, Pin | None]
"""What a layer's projections showed, by name. None: nothing was there."""

PINS: Memory[Pins] = Memory(
    dump=lambda pins: {name: pin.to_json() if pin else None for name, pin in pins.items()},
    load=lambda data: {name: Pin.from_json(pin) if pin else None for name, pin in data.items()},
)
TEXT: Memory[str] = Memory(dump=lambda text: text, load=str)
NOTHING: Memory[None] = Memory(dump=lambda _: None, load=lambda _: None)


def compensatable(
    remember: Callable[[World, Move], M], memory: Memory[M]
) -> Callable[[Do[M]], Compensatable[M]]:
    """Declare a do together with what it remembers."""
    return lambda do: Compensatable(do, remember, memory)


def aside(do: Do[None]) -> Compensatable[None]:
    """Declare a do that touches nothing live, so that there is nothing to remember."""
    return Compensatable(do, lambda _world, _move: None, NOTHING)


def always(_world: World) -> bool:
    """Every system has what the row is about."""
    return True


def nothing(_world: World, _move: Move, _was: object) -> None:
    """Nothing to take back."""


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the table. `do` is None where the row is only a gate."""

    phase: Phase
    levels: frozenset[Level]
    layer: str
    do: Compensatable[Any] | None
    prove: Gate
    undo: Undo[Any]
    where: Callable[[World], bool] = always
    """Whether a system has what the row is about; where not, it is left out of the plan."""

    @property
    def name(self) -> str:
        return self.do.name if self.do else qualified(self.prove)

    @property
    def compensates(self) -> bool:
        return self.undo is not nothing


def step(
    phase: Phase,
    levels: frozenset[Level],
    do: Compensatable[M],
    prove: Gate,
    undo: Undo[M],
    *,
    layer: str = "",
    where: Callable[[World], bool] = always,
) -> Step:
    """A row: in these levels, do this, prove it held, or else take it back this way.

    A row with a layer runs only where the move changes that layer, or for
    `OTHERS` any that is not built in; one with a `where` only in systems that
    have what it is about. Generic on purpose: a type checker rejects an undo
    that expects another step's memory.
    """
    return Step(phase, levels, layer, do, prove, undo, where)


def gate(phase: Phase, levels: frozenset[Level], prove: Gate) -> Step:
    """A row that only looks."""
    return Step(phase, levels, "", None, prove, nothing)


def qualified(function: Callable[..., Any]) -> str:
    """`route.switch` for the function `switch` of the module `tasks.route`."""
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def says(function: Callable[..., Any]) -> str:
    """The first line of a function's docstring, for people who read a plan."""
    return (getdoc(function) or qualified(function)).partition("\n")[0]
