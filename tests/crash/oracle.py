"""Judges a system after a recovery, from its stores alone: no code of ebbtide is asked.

MLflow and the journal by SQL, Delta by its log's JSON, folders by their bytes.
The names of the findings are those of the invariants that the tests print.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests import stores

Sql = Callable[[str], Sequence[tuple[Any, ...]]]
Findings = dict[str, list[str]]
"""What is wrong, by invariant."""

INVARIANTS = {
    "I1": "no mixed answer",
    "I2": "exactly source or exactly target",
    "I3": "one switch in each direction",
    "I4": "audit whole, each effect with intent and outcome",
    "I5": "no version of a table lost",
    "I6": "epochs only grow",
    "I8": "attempts below the cap",
    "I9": "no failed request",
    "I10": "each effect once, and undone where its release left",
    "I11": "the view of outputs shows what stands, and no more",
    "I12": "one model more at most, and the target leads to it",
}
_MODEL = "ride-demand"
_TABLES = ("rides", "weather", "zones")
_ATTEMPTS = 7
"""Five processes that die over a saga, the one that says so, and one by hand."""


@dataclass
class Oracle:
    """Looks at one workspace and one journal; remembers what it saw of the tables."""

    root: Path
    state: Path
    sql: Sql
    _seen: dict[str, str] = field(default_factory=dict)
    _models: Sequence[int] = ()
    _models_judged: Sequence[int] = ()

    def shown(self) -> dict[str, Any]:
        """What each outside pointer shows now."""
        return {
            "route": self._one("SELECT release FROM routes"),
            "model": stores.alias(self.root, _MODEL, "champion"),
            "prompt": stores.alias(self.root, "rider-message", "production"),
            "features": stores.folder(self.root / "live/features"),
            "config": stores.folder(self.root / "live/config"),
            "infra": stores.folder(self.root / "live/serving"),
            "flags": _read(self.root / "live/flags.json"),
            **{name: stores.table(self.root / "tables" / name) for name in _TABLES},
        }

    def everything(self) -> dict[str, Any]:
        """All outside the journal that a rollback may change, down to tags and log entries."""
        files = [path for name in ("live", "tables") for path in _below(self.root / name)]
        return {
            **{str(path): _bytes(path) for path in files},
            "registry": stores.registry(self.root),
            "cache": self._cache_token(),
        }

    def lineage(self) -> dict[str, Any]:
        """What the tables show that a release only names."""
        return {name: stores.table(self.root / "tables" / name) for name in ("rides", "weather")}

    def judge(self, saga: str, source: dict[str, Any], target: dict[str, Any]) -> Findings:
        """What is wrong once a saga has ended; an empty id: none was begun."""
        found: Findings = defaultdict(list)
        state = self._one(f"SELECT state FROM sagas WHERE id = '{saga}'") if saga else "refused"
        wanted = target if state == "completed" else source
        shown = self.shown()
        found["I2"] += [
            f"{state}, but {name} shows {_brief(shown[name])} and not {_brief(wanted[name])}"
            for name in wanted
            if shown[name] != wanted[name]
        ]
        found["I2"] += self._standing(state)
        found["I4"] += self._trail()
        found["I5"] += self._lost()
        found["I6"] += self._epochs()
        found["I12"] += self._trained(state)
        if saga:
            found["I3"] += self._switches(saga)
            found["I4"] += self._steps(saga, state)
            if self._one(f"SELECT lease_epoch FROM sagas WHERE id = '{saga}'") > _ATTEMPTS:
                found["I8"].append("it was taken over too often")
        return {name: lines for name, lines in found.items() if lines}

    def remember(self) -> None:
        """What the tables' logs say now has to be there for ever."""
        self._seen |= self._logs()
        self._models = stores.registered(self.root, _MODEL)
        late = self._models_judged and self._models != self._models_judged
        assert not late, "what a dead process had started registered a model after its saga's end"

    def _standing(self, state: str) -> list[str]:
        """What no ended saga may leave behind."""
        wrong = [] if state in ("completed", "taken back", "refused") else [f"it is `{state}`"]
        route, cached = self._one("SELECT token FROM routes"), self._cache_token()
        if route != cached:
            wrong.append(f"the cache is at {cached}, the route at {route}")
        if self._one("SELECT candidate FROM routes"):
            wrong.append("a candidate is still asked for")
        if self.sql("SELECT name FROM fences"):
            wrong.append("the journal has fences")
        wrong += [f"the writers of {name} are held back" for name in _TABLES if self._fenced(name)]
        if self.sql("SELECT id FROM sagas WHERE state = 'open'"):
            wrong.append("a saga is open")
        return wrong

    def _switches(self, saga: str) -> list[str]:
        moved = [what for (what,) in self._entries("what", saga) if what.startswith("route ")]
        return [f"{what} {moved.count(what)} times" for what in {*moved} if moved.count(what) > 1]

    def _trained(self, state: str) -> list[str]:
        self._models_judged = stores.registered(self.root, _MODEL)
        new = {*self._models_judged} - {*self._models}
        wrong = [f"versions {sorted(new)} were registered"] if len(new) > 1 else []
        alias = stores.alias(self.root, _MODEL, "champion")
        if state == "completed" and new and alias not in map(str, new):
            wrong.append(f"the alias is at {alias} though {sorted(new)} were registered")
        return wrong

    def _trail(self) -> list[str]:
        """The chain, worked out anew from the rows."""
        columns = "n, at, system, who, what, saga, detail, previous, digest"
        rows = self.sql(f"SELECT {columns} FROM audit ORDER BY n")
        wrong, previous = [], "0" * 64
        for expected, row in enumerate(rows, 1):
            n, at, system, who, what, saga, detail, before, digest = row
            told = {"n": n, "at": at / 1e6, "system": system, "who": who, "what": what}
            told |= {"saga": saga, "detail": json.loads(detail), "previous": before}
            if (n, before, digest) != (expected, previous, _digest(told)):
                wrong.append(f"audit entry {expected} is not what was written")
            previous = digest
        if self.sql("SELECT entries, digest FROM audit_head") != [(len(rows), previous)]:
            wrong.append("the head of the trail is not its last entry")
        return wrong[:3]

    def _steps(self, saga: str, state: str) -> list[str]:
        plan = json.loads(self._one(f"SELECT plan FROM sagas WHERE id = '{saga}'"))["steps"]
        columns = "n, intent_at, done_at, verdict, undone_at, undo_error"
        rows = {
            row[0]: row for row in self.sql(f"SELECT {columns} FROM steps WHERE saga = '{saga}'")
        }
        wrong = []
        for n, step in enumerate(plan):
            _, intent, done, verdict, undone, error = rows.get(n, (n, None, None, "", None, ""))
            if state == "completed" and not (intent and done and verdict == "passed"):
                wrong.append(f"{step['name']}: done at {done}, proof {verdict!r}")
            if state == "taken back" and intent and step["takes_back"] and not undone:
                wrong.append(f"{step['name']} was begun and not taken back {error}")
        for _, detail in self._entries("n, detail", saga, "step done"):
            n = json.loads(detail)["step"]
            if not rows.get(n, (0, 0, 0))[2]:
                wrong.append(f"step {n}: the trail has an outcome that the step has not")
        return wrong

    def _lost(self) -> list[str]:
        now = self._logs()
        return [
            f"{path} was {_brief(now.get(path))}"
            for path in self._seen
            if now.get(path) != self._seen[path]
        ]

    def _logs(self) -> dict[str, str]:
        """Every log entry by its content, and every data file by its size."""
        found: dict[str, str] = {}
        for name in _TABLES:
            table = self.root / "tables" / name
            found |= {str(path): _bytes(path) for path in table.glob("_delta_log/*.json")}
            found |= {str(path): str(path.stat().st_size) for path in table.rglob("*.parquet")}
        return found

    def _epochs(self) -> list[str]:
        moved = [
            json.loads(detail)["epoch"]
            for (_, detail) in self._entries("n, detail", "", "route switched", "route returned")
        ]
        wrong = [f"epoch {b} after {a}" for a, b in pairwise(moved) if b <= a]
        route = self._one("SELECT epoch FROM routes")
        return wrong if route == moved[-1] else [*wrong, f"the route is at {route}"]

    def _entries(self, columns: str, saga: str, *what: str) -> Sequence[tuple[Any, ...]]:
        asked = [f"saga = '{saga}'"] if saga else []
        if what:
            asked.append(f"what IN ({', '.join(repr(each) for each in what)})")
        return self.sql(f"SELECT {columns} FROM audit WHERE {' AND '.join(asked)} ORDER BY audit.n")

    def _fenced(self, name: str) -> bool:
        """By the newest metadata of the table's log."""
        for entry in sorted((self.root / "tables" / name / "_delta_log").glob("*.json"))[::-1]:
            for line in entry.read_text().splitlines():
                if '"metaData"' in line:
                    told = json.loads(line)["metaData"]["configuration"]
                    return any(key.startswith("ebbtide.fence.") and told[key] for key in told)
        return False

    def _cache_token(self) -> str:
        return stores.cache_token(self.state, "ride-pricing")

    def _one(self, query: str) -> Any:
        return self.sql(query)[0][0]


def _digest(told: Mapping[str, Any]) -> str:
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _below(path: Path) -> list[Path]:
    """Files, and links by where they lead; what is served is written all the time."""
    return [each for each in path.rglob("*") if each.is_file() and "served" not in each.parts]


def _bytes(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest() + str(path.resolve())


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _brief(value: Any) -> str:
    return f"{value!r}"[:80]
