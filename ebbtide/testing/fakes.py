"""A system in memory: layers, replicas and cache that keep the ports' promises.

Only the journal is real (SQLite in the folder that you give): it costs nothing
and is what everything else depends on.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebbtide.core import restorable
from ebbtide.core.digests import digest
from ebbtide.core.errors import (
    Conflict,
    FloatingReference,
    GateNotPassed,
    NotRestorable,
    Unknown,
    Unreachable,
)
from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.journal import Journal, Replica
from ebbtide.core.ports import Answer, Policy, World
from ebbtide.core.quality import Quality
from ebbtide.core.release import Pin, Release
from ebbtide.core.saga import BUILT_IN, Phase
from ebbtide.core.step import Gate
from ebbtide.testing.effects import FakeReceivers

LAYERS = (*BUILT_IN, "flags", "rules")
"""The built-in layers, and two that ebbtide does not know."""


class FakeLayer:
    """A layer whose versions are the numbers 1, 2, 3, ... of each thing."""

    def __init__(
        self,
        name: str,
        things: Sequence[str] = ("main",),
        at: Callable[[str], Mapping[str, str]] = lambda _version: {},
    ) -> None:
        self.name = name
        self.lost: set[str] = set()
        """Digests whose content somebody has deleted."""
        self.away = False
        """True: the store cannot be reached."""
        self.newest = "1"
        """The version that is pinned where none is asked for."""
        self.prepared: set[str] = set()
        self.tags: dict[str, str] = {}
        self.moves: list[tuple[str, str, str]] = []
        """Every write: thing, digest it shows since, note."""
        self._at = at
        self._live: dict[str, Pin | None] = dict.fromkeys(things)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._live)

    def pin(self, name: str, ask: str = "") -> Pin:
        self._reach()
        if name not in self._live:
            raise Unknown(f"There is no {self.name} {name}.")
        if not (ask or "1").isdigit():
            raise FloatingReference(f"`{ask}` is not a version of {self.name} {name}.")
        version = ask or self.newest
        return Pin(
            name,
            digest([self.name, name, version]),
            {"version": version, **self._at(version)},
        )

    def problems(self, pin: Pin) -> list[str]:
        self._reach()
        return [f"{pin.name} {pin} is gone"] if pin.digest in self.lost else []

    def prepare(self, pin: Pin) -> None:
        self._reach()
        if pin.digest in self.lost:
            raise NotRestorable(f"{self.name} {pin.name} {pin} is gone.")
        self.prepared.add(pin.digest)

    def tag_release(self, pin: Pin, release_id: str) -> None:
        self.tags[pin.digest] = release_id

    def live(self, name: str) -> Pin | None:
        self._reach()
        return self._live[name]

    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        self._reach()
        shows = self._live[name]
        if shows == to:
            return
        if shows not in only_from:
            raise Conflict(f"{self.name} {name} shows {shows}: somebody else has moved it.")
        self._live[name] = to
        self.moves.append((name, to.digest if to else "", note))

    def meddle(self, name: str, to: Pin | None) -> None:
        """Move the projection as somebody else would, past ebbtide."""
        self._live[name] = to

    def _reach(self) -> None:
        if self.away:
            raise Unreachable(f"The store of layer {self.name} cannot be reached.")


class FakeTables(FakeLayer):
    """Tables whose writers can be held back."""

    def __init__(
        self,
        name: str,
        things: Sequence[str] = ("main",),
        at: Callable[[str], Mapping[str, str]] = lambda _version: {},
    ) -> None:
        super().__init__(name, things, at)
        self.held: dict[tuple[str, str], str] = {}
        """The saga that holds a table's writers back, by table and system."""

    def hold_writers(self, name: str, system: str, saga: str) -> None:
        self._reach()
        self.held[name, system] = saga

    def let_writers_go(self, name: str, system: str) -> None:
        self._reach()
        self.held.pop((name, system), None)

    def held_by(self, name: str, system: str) -> str:
        self._reach()
        return self.held.get((name, system), "")


class FakeMaker(FakeLayer):
    """A layer whose versions can be made again from those of another: features, models."""

    def __init__(
        self,
        name: str,
        made_from: str,
        things: Sequence[str] = ("main",),
        at: Callable[[str], Mapping[str, str]] = lambda _version: {},
    ) -> None:
        super().__init__(name, things, at)
        self.made: dict[str, Pin] = {}
        """What was made, by the digest of its recipe and of what it was made from."""
        self.fails = ""
        """Why making fails; empty: it does not."""
        self.makings = 0
        self.errors: dict[str, float | None] = {}
        """What was measured when a content was made, by its digest; None: nothing was."""
        self._made_from = made_from

    def recipe(self, name: str, within: Release, ask: str = "") -> Pin:
        now = within.pin(self.name, name)
        version = ask or (now.at["version"] if now else "1")
        if now and version == now.at["version"] and self._of(within) == now.at.get("trained_on"):
            return now
        return Pin(name, "", {"version": version, **self._at(version)})

    def found(self, recipe: Pin, within: Release) -> Pin | None:
        return self.made.get(self._key(recipe, within))

    def make(self, recipe: Pin, within: Release, tell: Callable[[str], None]) -> Pin:
        self._reach()
        if self.fails:
            raise GateNotPassed(self.fails)
        if (found := self.found(recipe, within)) is not None:
            return found
        tell(f"making {recipe.name}")
        self.makings += 1
        of = self._of(within)
        content = digest([self.name, recipe.name, recipe.at["version"], of])
        made = Pin(recipe.name, content, {**recipe.at, "trained_on": of})
        return self.made.setdefault(self._key(recipe, within), made)

    def quality(self, pin: Pin) -> Quality | None:
        return Quality("error", self.errors.get(pin.digest, 0.1))

    def _key(self, recipe: Pin, within: Release) -> str:
        return digest([recipe.name, recipe.at["version"], self._of(within)])

    def _of(self, within: Release) -> str:
        """The content that it is made from: that of the only thing as it is, else of all."""
        digests = [pin.digest for pin in within.pins(self._made_from)]
        return digests[0] if len(digests) == 1 else digest(digests)


class FakeKept(FakeMaker):
    """One that serves from kept contents while its store is away: models."""

    def kept_problems(self, pin: Pin) -> list[str]:
        return [f"{pin.name} {pin} is not kept"] if pin.digest in self.lost else []


class FakeServing:
    """Replicas that follow the journal at once, unless they are told not to."""

    def __init__(
        self, journal: Journal, system: str, names: Sequence[str] = ("one", "two")
    ) -> None:
        self.names = list(names)
        self.refuses: dict[str, str] = {}
        """Release ids that no replica can load, and why."""
        self.deaf: set[str] = set()
        """Replicas that do not see the route move."""
        self.wrong = False
        """True: they answer other than was recorded."""
        self.layers: Mapping[str, Any] = {}
        """What they look at a release's pins with; empty: they cannot look."""
        self.looked: list[str] = []
        """Each time that a replica was asked to look: its name."""
        self._journal, self._system = journal, system
        self._heard: dict[str, tuple[str, int]] = {}

    def close(self) -> None:
        """Nothing is kept open."""

    def replicas(self) -> list[Replica]:
        route = self._journal.route(self._system)
        now = (route.release, route.epoch) if route else ("", 0)
        for name in self.names:
            if name not in self.deaf:
                self._heard[name] = now
        held = {route.release, route.candidate} - {""} if route else set()
        loaded = tuple(sorted(held - set(self.refuses)))
        return [
            Replica(
                name,
                f"fake://{name}",
                *self._heard.get(name, ("", 0)),
                loaded,
                self.refuses,
                0,
            )
            for name in self.names
        ]

    def ask(self, replica: Replica, rows: Sequence[Any], release: str = "") -> Answer:
        as_release = release or replica.release
        answers = fake_answers(as_release, rows)
        if self.wrong and not release:
            answers = tuple({**answer, "value": answer["value"] * 1.35} for answer in answers)
        return Answer(answers, as_release, replica.epoch)

    def problems(self, replica: Replica, release: Release) -> list[str]:
        self.looked.append(replica.name)
        if not self.layers:
            raise Unreachable(f"Replica {replica.name} cannot look.")
        return restorable.problems(self.layers, release)


class FakeScorer:
    """Answers as the fake replicas do."""

    def answers(self, release: Release, rows: Sequence[Any]) -> tuple[Any, ...]:
        return fake_answers(release.id, rows)


class FakeCache:
    """A cache in a dictionary."""

    def __init__(self) -> None:
        self.away = False
        self.entries: dict[tuple[str, str], bytes] = {}
        self.tokens: list[str] = [""]
        """Every token that was ever published."""

    def epoch(self) -> str:
        self._reach()
        return self.tokens[-1]

    def start_epoch(self, token: str) -> None:
        self._reach()
        self.tokens.append(token)

    def get(self, token: str, key: str) -> bytes | None:
        self._reach()
        return self.entries.get((token, key))

    def put(self, token: str, key: str, value: bytes) -> None:
        self._reach()
        self.entries[token, key] = value

    def drop_epoch(self, token: str) -> int:
        self._reach()
        dead = [key for key in self.entries if key[0] == token]
        for key in dead:
            del self.entries[key]
        return len(dead)

    def _reach(self) -> None:
        if self.away:
            raise Unreachable("The cache cannot be reached.")


class FakeContents:
    """Finds everything as good as it has to be, unless it is told not to."""

    def __init__(self) -> None:
        self.finds: dict[str, Finding] = {}
        """What it finds of a content, by its digest."""
        self.differs: set[str] = set()
        """Digests of features that are distributed otherwise than those before."""
        self.limits: dict[str, float] = {}
        """Seconds after which features are too old, by feature set."""
        self.compared: list[tuple[str, str]] = []
        """Each comparison: the digest of the features, and of those before."""

    def examine_table(self, pin: Pin) -> Finding:
        return self.finds.get(pin.digest, passed(f"table {pin.name} meets its suite"))

    def examine_features(self, pin: Pin) -> Finding:
        return self.finds.get(pin.digest, passed(f"features {pin.name} meet their suite"))

    def compare_features(self, pin: Pin, before: Pin) -> Finding:
        self.compared.append((pin.digest, before.digest))
        if pin.digest in self.differs:
            return failed(f"features {pin.name} are not distributed as before")
        return passed(f"features {pin.name} are distributed as before")

    def fresh_within(self, name: str) -> float | None:
        return self.limits.get(name)


def fake_answers(release: str, rows: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """What a fake release answers: a figure of its own for each row."""
    return tuple({"row": row, "value": int(release[:6] or "0", 16) / 7} for row in rows)


@dataclass(frozen=True)
class FakeWorld(World):
    """A world of which a test may break each part."""

    layers: Mapping[str, FakeLayer]
    serving: FakeServing
    cache: FakeCache


def fake_world(
    folder: Path,
    system: str = "fake",
    layers: Sequence[str] = LAYERS,
    policy: Policy | None = None,
    own_gates: Mapping[Phase, Mapping[str, Gate]] | None = None,
    journal: Journal | None = None,
) -> FakeWorld:
    """A whole system in memory, its journal in SQLite below `folder`, or one that is open."""
    if journal is None:
        from ebbtide.adapters.journal import open_journal

        journal = open_journal(f"sqlite:///{folder / 'journal.db'}")
    at: Mapping[str, Callable[[str], Mapping[str, str]]] = {
        "data": lambda _version: {"role": "reference"},
        "features": lambda version: {
            "trained_on": digest(["data", "main", version]),
            "pipeline": f"pipeline {version}",
        },
        "model": lambda version: {
            "trained_on": digest(["features", "main", version]),
            "trained_pipeline": f"pipeline {version}",
        },
    }
    return FakeWorld(
        system=system,
        policy=policy or Policy(proved_after=0.0, replicas=1, warm_within=0.2, switch_within=0.2),
        journal=journal,
        layers={name: _fake_layer(name, at.get(name, lambda _version: {})) for name in layers},
        serving=FakeServing(journal, system),
        scorer=FakeScorer(),
        cache=FakeCache(),
        contents=FakeContents(),
        questions=("q1", "q2", "q3"),
        smoke=("s1",),
        own_gates=own_gates or {},
        receivers=FakeReceivers(),
    )


def _fake_layer(name: str, at: Callable[[str], Mapping[str, str]]) -> FakeLayer:
    kinds: Mapping[str, Callable[[], FakeLayer]] = {
        "model": lambda: FakeKept(name, "features", at=at),
        "features": lambda: FakeMaker(name, "data", at=at),
        "data": lambda: FakeTables(name, at=at),
    }
    return kinds.get(name, lambda: FakeLayer(name, at=at))()
