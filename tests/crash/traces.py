"""What a release leaves in the world beside its layers: effects that it set off, and outputs.

Each has a judge: the receiver knows what arrived, and the table's log and files what is valid.
"""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ebbtide import effects, outputs
from ebbtide.core.dispatch import all_due
from ebbtide.core.ports import World
from tests.crash.oracle import Findings, Sql
from tests.integration.effects_fixtures import Inbox
from tests.integration.outputs_fixtures import in_the_table

TARGET, OUTPUT, TABLE = "mail", "quotes", "tables/quotes"
_UNDONE = effects.Undo(TARGET, {"sorry": "{key}"})
_SENT = ("first", "final", "last")
_WAITS = "waits"


@dataclass
class Traces:
    """Of one journey: of the release that it leaves, and of another one."""

    world: World
    root: Path
    inbox: Inbox
    sql: Sql
    _number: int = 0
    _mine: str = ""
    _other: str = ""
    _early: list[str] = field(default_factory=list)

    def leave(self, mine: str, other: str) -> None:
        """Effects are sent, one waits, and a partition is written with each release."""
        self._number, self._mine, self._other, self._early = self._number + 1, mine, other, []
        for name in _SENT:
            self._queue(name)
        self._dispatch()
        self._queue(_WAITS)
        self._write("today", mine)
        self._write("yesterday", other)

    def meanwhile(self) -> None:
        """A dispatcher goes on while the process of a saga is dead: a hold must stop it."""
        held, before = self._held(), len(self.inbox.keys)
        self._dispatch()
        if held:
            self._early += self.inbox.keys[before:]

    def judge(self, left: bool) -> Findings:
        """What is wrong, once dispatch goes on; `left`: the release was rolled back."""
        self._dispatch()
        found: Findings = defaultdict(list)
        found["I10"] += [f"{key} was sent while dispatch was held" for key in self._early]
        found["I10"] += [f"saga {saga} still holds dispatch" for saga in self._held()]
        found["I10"] += self._astray(left)
        found["I11"] += self._shown_wrong(left)
        return {name: lines for name, lines in found.items() if lines}

    def _queue(self, name: str) -> None:
        undo = None if name == "final" else _UNDONE
        effects.queue(
            self.world,
            TARGET,
            {"to": name},
            key=self._key(name),
            klass="reversible" if undo else "irreversible",
            undo=undo,
            release=self._mine,
        )

    def _write(self, partition: str, release: str) -> None:
        rows = [{"id": n, "price": float(self._number)} for n in range(2)]
        run = self._run(partition)
        outputs.write(self.world, OUTPUT, partition, rows, run=run, release=release)

    def _astray(self, left: bool) -> list[str]:
        """Each effect and each undo arrives once or never, as what became of its release says."""
        keys, came = [self._key(name) for name in (*_SENT, _WAITS)], Counter(self._arrived())
        waited = (1, 1) if came[keys[-1]] else (0, 0)
        wanted = [(1, 1), (1, 0), (1, 1), waited] if left else [(1, 0)] * 4
        found = [(came[key], came[f"undo/{key}"]) for key in keys]
        wrong = [
            f"{key} and its undo arrived {there} times, not {right}"
            for key, there, right in zip(keys, found, wanted, strict=True)
            if there != right
        ]
        return wrong + self._out_of_order()

    def _out_of_order(self) -> list[str]:
        order = [f"undo/{self._key(name)}" for name in (_WAITS, *reversed(_SENT))]
        came = [key for key in self._arrived() if key in order]
        return [] if came == [key for key in order if key in came] else [f"undone in order {came}"]

    def _shown_wrong(self, left: bool) -> list[str]:
        """What the view shows is what stands of the releases that were not rolled back."""
        standing = [("yesterday", self._other)] + ([] if left else [("today", self._mine)])
        wanted = {
            (partition, self._run(partition), release, float(self._number), 2)
            for partition, release in standing
        }
        table = {
            "today": [(self._run("today"), not left, 2)],
            "yesterday": [(self._run("yesterday"), True, 2)],
        }
        shown, marked = self._view(), in_the_table(self.root / TABLE)
        wrong = [] if shown == wanted else [f"the view shows {shown} and not {wanted}"]
        return wrong if marked == table else [*wrong, f"the table is marked {marked}, not {table}"]

    def _view(self) -> set[tuple[str, str, str, float, int]]:
        rows = outputs.read(self.world, OUTPUT, consumer="judge").read_all().to_pylist()
        columns = ("_partition", "_run", "_release", "price")
        each = [tuple(row[column] for column in columns) for row in rows]
        return {(*row, each.count(row)) for row in each}

    def _arrived(self) -> list[str]:
        return [key.removeprefix(f"{self.world.system}/") for key in self.inbox.keys]

    def _dispatch(self) -> None:
        all_due(self.world, lambda _attempt: None)

    def _held(self) -> Collection[str]:
        return [saga for (saga,) in self.sql("SELECT saga FROM effect_holds")]

    def _key(self, name: str) -> str:
        return f"{self._number}/{name}"

    def _run(self, partition: str) -> str:
        return f"{self._number}-{partition}"
