"""What the engine and the steps need of the outside world, and nothing more."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ebbtide.core.contents import Contents
from ebbtide.core.effects import Receivers
from ebbtide.core.gates import Finding
from ebbtide.core.journal import Journal, Replica
from ebbtide.core.lease import Lease
from ebbtide.core.outputs import OutputStore
from ebbtide.core.release import Pin, Release
from ebbtide.core.retention import (
    Rule,
)
from ebbtide.core.saga import Move, Phase


class Layer(Protocol):
    """One layer of a system: how its things are pinned, checked and moved.

    Every method may raise `Unreachable` where the store is away.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The things of this layer that the system file names."""

    def pin(self, name: str, ask: str = "") -> Pin:
        """Resolve what a person asks for to an immutable content.

        `ask` is a version as a person writes it (a registry version, a table
        version, a commit); empty: what is newest now. Raises `FloatingReference`
        for an alias, a branch or `latest`, `Unknown` for what is not there.
        """

    def problems(self, pin: Pin) -> list[str]:
        """Why the pin could not be restored right now, byte by byte. Reads only."""

    def prepare(self, pin: Pin) -> None:
        """Make the pin's content ready aside. Idempotent; nothing live is touched."""

    def live(self, name: str) -> Pin | None:
        """What the projection shows outside now; None where it shows nothing."""

    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        """Let the projection show `to`, and read it back. None: take it away.

        Does nothing where it shows `to` already. Raises `Conflict` where it
        shows neither `to` nor one of `only_from`: somebody else has moved it.
        `note` names the saga, for stores that keep a history.
        """


@runtime_checkable
class Marking(Protocol):
    """A layer whose store can keep a mark of the releases that pin a thing."""

    def tag_release(self, pin: Pin, release_id: str) -> None:
        """Leave the mark. Idempotent."""


@runtime_checkable
class Cold(Protocol):
    """A layer whose store's client takes seconds to load."""

    @property
    def is_cold(self) -> bool:
        """It is not loaded in this process yet: the first call would wait for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a replica answered, and as which release."""

    predictions: tuple[Any, ...]
    release: str
    epoch: int


class Serving(Protocol):
    """The replicas that serve a system."""

    def replicas(self) -> list[Replica]:
        """Those that are alive."""

    def ask(self, replica: Replica, rows: Sequence[Any], release: str = "") -> Answer:
        """Send rows to a replica's real serving path, past its cache.

        `release`: ask this warm release aside, not the live one.
        """

    def problems(self, replica: Replica, release: Release) -> list[str]:
        """Why the release could not be restored, found by the replica's own adapters.

        The replica need not have loaded it. Raises an `EbbtideError` where it
        cannot say of every pin: what was not looked at is not whole.
        """

    def close(self) -> None:
        """Give up what is kept open for asking."""


class Scorer(Protocol):
    """A release loaded into this process, aside from all that serves."""

    def answers(self, release: Release, rows: Sequence[Any]) -> tuple[Any, ...]:
        """One prediction for each row, as a replica would give them."""


class Cache(Protocol):
    """Cached predictions. The key of each begins with an epoch's token."""

    def epoch(self) -> str:
        """The token that outside readers of the cache go by; empty where none is set."""

    def start_epoch(self, token: str) -> None: ...

    def get(self, token: str, key: str) -> bytes | None: ...

    def put(self, token: str, key: str, value: bytes) -> None: ...

    def drop_epoch(self, token: str) -> int:
        """Delete a dead epoch's entries; how many there were."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a system demands. Seconds throughout."""

    proved_after: float = 3600.0
    """A release is proved good once it has served this long after its saga was proved."""
    replicas: int = 1
    """How many live replicas a cut-over needs at least."""
    warm_within: float = 120.0
    switch_within: float = 15.0
    heartbeat_within: float = 5.0
    """A replica that has not reported for so long is not alive."""
    tolerance: float = 1e-6
    """Largest relative difference of a golden answer's figures."""
    retention: Rule = field(default_factory=Rule)
    """How long releases are kept."""


@dataclass(frozen=True)
class World:
    """One system with all its adapters: what a step may touch."""

    system: str
    policy: Policy
    journal: Journal
    layers: Mapping[str, Layer]
    serving: Serving
    scorer: Scorer
    cache: Cache
    contents: Contents
    questions: tuple[Any, ...] = ()
    """The golden set: rows as a client would send them."""
    smoke: tuple[Any, ...] = ()
    """A few rows that every release must be able to answer."""
    own_gates: Mapping[Phase, Mapping[str, "OwnGate"]] = field(default_factory=dict)
    """Gates of the user's own, by phase and name, in the order in which they are asked."""
    outputs: OutputStore | None = None
    """The tables of its batch outputs; None where the system file names none."""
    receivers: Receivers | None = None
    """Where its side effects go; None where the system file names nowhere."""
    lease: Lease | None = None
    """The right to write for the saga under way, in the world that its steps are given."""
    tell: Callable[[str], None] = lambda _line: None
    """Told lines of progress by steps that take long."""


OwnGate = Callable[[World, Move], Finding]
