"""One long-lived production that is killed again and again, and judged after each recovery."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import deltalake
import pytest

from ebbtide.core.release import Release
from ebbtide.core.saga import ROLLBACKS, Level, SagaState
from reference.ride_pricing.oracle import Verdict
from reference.ride_pricing.traffic import Served, Traffic
from tests import stores
from tests.crash.children import Child, Ended, start
from tests.crash.journeys import SYSTEM, Journey, all_of
from tests.crash.oracle import Findings, Oracle, Sql
from tests.crash.shipped import Shipped
from tests.crash.traces import OUTPUT, TABLE, TARGET, Traces
from tests.crash.workshop import Workshop
from tests.integration.effects_fixtures import Inbox, receiving
from tests.own_package import install
from tests.ride_pricing import Built, Running, running

_PATIENCE = 3600.0
"""Seconds that riders' answers by a release wait for its name: until its journey is judged."""


@dataclass
class Production:
    """The system under test, its riders and its judge."""

    system: Running
    sql: Sql
    folder: Path
    inbox: Inbox
    riders: Traffic | None = None
    live: str = "v3"
    _numbers: Iterator[int] = field(default_factory=count)
    _before: tuple[int, dict[str, Any]] = (0, {})
    _words: tuple[str, ...] = ()
    _grown: list[str] = field(default_factory=list)
    journeys: dict[str, Journey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        root, world = self.system.root, self.system.world
        self.oracle = Oracle(root, self.system.file.state_dir, self.sql)
        self.shipped = Shipped(self.system)
        self.traces = Traces(world, root, self.inbox, self.sql)
        (v2,) = self.release("v2").pins("features")
        self.workshop = Workshop(root, v2.at["commit"], self.shows("v2"))

    def release(self, name: str) -> Release:
        return self.shipped.release(name)

    def shows(self, name: str) -> dict[str, Any]:
        return self.shipped.shows(name)

    def command(self, *words: str, **environment: str) -> Child:
        """`ebbtide WORDS` in a process of its own."""
        out = self.folder / f"{next(self._numbers)}.out"
        folder = str(self.system.root / "configs/production")
        return start((*words, "--systems", folder), out, environment)

    def order(self, journey: Journey, **environment: str) -> Child:
        assert self.live == journey.begins, f"{self.live} serves, not {journey.begins}"
        return self.command(*self._words, "--yes", "--json", **environment)

    @contextmanager
    def asleep(self, journey: Journey, point: str) -> Iterator[Child]:
        """An order whose process fell asleep at a point, and whose lease has run out since."""
        self.begin(journey)
        zombie = self.order(journey, EBBTIDE_STOP_AT=point)
        try:
            zombie.stopped()
            self.expire()
            yield zombie
        finally:
            zombie.gone()

    def recover(self, **environment: str) -> Ended:
        return self.command("recover", SYSTEM, "--json", **environment).ended()

    def expire(self) -> None:
        """Let leases run out, as 15 silent seconds would."""
        self.sql("UPDATE sagas SET lease_until = 1 WHERE state = 'open'")

    def newest(self) -> str:
        """The newest saga."""
        found = self.sql("SELECT id FROM sagas ORDER BY entry DESC LIMIT 1")
        return str(found[0][0])

    def state(self, saga: str) -> str:
        return str(self.sql(f"SELECT state FROM sagas WHERE id = '{saga}'")[0][0])

    def entries(self) -> int:
        """How many writes the journal had."""
        return int(self.sql("SELECT entries FROM audit_head")[0][0])

    def points(self, child: Callable[..., Child | Ended], *given: object) -> list[str]:
        """Every point that a command passes when nothing kills it, in their order."""
        told = self.folder / f"{next(self._numbers)}.points"
        told.touch()
        run = child(*given, EBBTIDE_POINTS=str(told))
        ended = run if isinstance(run, Ended) else run.ended()
        assert ended.code in (0, 1), ended.out
        seen: dict[str, int] = {}
        points = []
        for point in told.read_text().splitlines():
            seen[point] = seen.get(point, 0) + 1
            points.append(point if seen[point] == 1 else f"{point}#{seen[point]}")
        return points

    def begin(self, journey: Journey) -> None:
        """Be where a journey begins, by an order that nothing disturbs."""
        self.go(journey.begins)
        if journey.moves:
            self._grow_rides()
        new = journey.fresh()
        self._words = tuple(word.format(**new) for word in journey.words)
        self._look()

    def begin_again(self, journey: Journey) -> None:
        """Be where the same order can be given once more."""
        self.go(journey.begins)
        self._look()

    def _look(self) -> None:
        mine, other = (self.release(name).id for name in (self.live, _other(self.live)))
        self.traces.leave(mine, other)
        self.oracle.remember()
        self._before = (len(self._sagas()), self.oracle.lineage())

    def go(self, name: str) -> None:
        """Let a release serve, by an order that nothing disturbs."""
        if self.live == name:
            return
        saga = self.system.order(Level.PROMOTION, to=self.release(name).id)
        assert saga.state is SagaState.COMPLETED, f"{name}: {saga.why}"
        self.live = name

    def settled(self, journey: Journey) -> tuple[str, Findings]:
        """How the journey ended and what is wrong; from here the next one begins."""
        before, lineage = self._before
        sagas = self._sagas()[before:]
        states = [self.state(saga) for saga in sagas]
        begins, leads = journey.legs[: max(len(sagas), 1)][-1]
        self._know_what_was_made(journey, sagas)
        source = {**lineage, **self.shows(begins)}
        target = {**lineage, **self.shows(leads), **journey.moves} if sagas else source
        wrong = self.oracle.judge(sagas[-1] if sagas else "", source, target)
        if journey.safe and any(state != "completed" for state in states[:-1]):
            wrong.setdefault("I2", []).append(f"it went on after {states}")
        self.live = leads if states[-1:] == ["completed"] else begins
        wrong |= self.traces.judge(left=journey.level in ROLLBACKS and "completed" in states)
        self._lift_quarantine()
        for line in self._judged_by_riders():
            wrong.setdefault("I1" if line.startswith(Verdict.MIXED) else "I9", []).append(line)
        return states[-1] if states else "never begun", wrong

    def planned(self, journey: Journey) -> set[str]:
        """The rows of an order's plan, once the journey is begun."""
        ended = self.command("plan", *self._words[1:], "--json").ended()
        assert ended.code in (0, 3), ended.out
        plan = json.loads(ended.out[ended.out.index("{") :])
        return {step["name"] for step in plan["steps"]}

    def _sagas(self) -> list[str]:
        return [str(saga) for (saga,) in self.sql("SELECT id FROM sagas ORDER BY entry")]

    def _know_what_was_made(self, journey: Journey, sagas: Sequence[str]) -> None:
        """What the stores show of a target that was made, and that riders may have met."""
        if not journey.makes or not sagas:
            return
        ((target,),) = self.sql(f"SELECT target FROM sagas WHERE id = '{sagas[-1]}'")
        shows = journey.makes() if self.state(sagas[-1]) == "completed" else {}
        self.shipped.made(journey.leads, str(target), shows)

    def _lift_quarantine(self) -> None:
        journal = self.system.world.journal
        denied = list(journal.quarantined(SYSTEM))
        journal.lift_quarantine(SYSTEM, denied, by="tester", reason="again")

    def grown(self) -> Journey:
        """Rows are written to a table of lineage and released; level `data` takes them away."""
        before, self._grown = self.shipped.grown("grown")
        safe = self.release("grown").id
        words = ("rollback", "data", SYSTEM, "--table", "rides=0", "--safe", safe)
        return Journey("data", Level.DATA, "grown", "v2", words, {"rides": before})

    def _grow_rides(self) -> None:
        rides = self.system.root / "tables/rides"
        if stores.table(rides) != self._grown:
            deltalake.DeltaTable(rides).restore(1)

    def asked(self, at_least: int) -> list[Served]:
        """What riders were answered, once there are so many answers."""
        assert self.riders
        deadline = monotonic() + 60
        while len(served := self.riders.served()) < at_least:
            assert monotonic() < deadline and self.riders.running
            sleep(0.05)
        return served

    def _judged_by_riders(self) -> list[str]:
        if self.riders is None:
            return []
        assert self.riders.running
        bad = [each for each in self.riders.served() if each.verdict is not Verdict.SERVED]
        return [f"{each.verdict}: {each.why}" for each in bad[:3]]


@contextmanager
def produced(built: Built, folder: Path, journal: str = "") -> Iterator[Production]:
    """A production with riders, in which v1 serves; on SQLite unless `journal` names another."""
    own = folder / "production"
    own.mkdir(exist_ok=True)
    if not journal:
        shutil.copy(built.promoted, own / "journal.db")
    with (
        pytest.MonkeyPatch.context() as patched,
        receiving() as inbox,
        running(built, own, journal, _more(folder, patched, inbox)) as system,
    ):
        system.start_gateway(*(() if journal else ("v3", "v2")))
        sql = on_postgresql(journal) if journal else on_sqlite(system.journal)
        made = Production(system, sql, folder, inbox)
        if journal:
            for name in ("v1", "v2", "v3"):
                made.go(name)
        made.shipped.again("twin", "v2", golden="v2")
        made.shipped.again("wrong", "v1", golden="v2")  # it never proves
        for number in (1, 2):
            made.shipped.flagged(f"flags {number}", number)
        made.journeys = {each.name: each for each in all_of(made)}
        made.oracle.remember()
        with system.riders(folder / "riders.jsonl", _PATIENCE) as made.riders:
            made.asked(1)
            yield made


def _more(folder: Path, patched: pytest.MonkeyPatch, inbox: Inbox) -> dict[str, dict[str, Any]]:
    """What its system file has beside the reference system's, so that every row has work."""
    install(folder / "site", patched, {"ebbtide.layers": {"flags": "feature_flags:Flags"}})
    return {
        "layers": {"flags": {"main": {"versions": "flags", "live": "live/flags.json"}}},
        "effects": {"targets": {TARGET: {"url": inbox.url}}},
        "outputs": {OUTPUT: {"path": TABLE}},
        "retention": {"cool_down_hours": 0},
    }


def _other(name: str) -> str:
    return "v1" if name != "v1" else "v2"


def on_sqlite(path: Path) -> Sql:
    def query(statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path, timeout=30)) as database, database:
            return database.execute(statement).fetchall()

    return query


def on_postgresql(url: str) -> Sql:
    def query(statement: str) -> list[tuple[Any, ...]]:
        import psycopg

        with psycopg.connect(url) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    return query
