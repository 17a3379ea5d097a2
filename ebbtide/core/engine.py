"""The engine: runs a plan's rows, stops at a gate that is not passed, takes back in reverse.

It knows neither Prefect nor any store: `perform` carries out each call, and the
journal remembers. The order of every step is fixed: what was there before is
journaled with the intent, then the effect, then its outcome, then its proof.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from ebbtide.core import events
from ebbtide.core.crashpoints import reach
from ebbtide.core.errors import EbbtideError, Fenced, GateNotPassed, PlanChanged
from ebbtide.core.fencing import guarded
from ebbtide.core.gates import Finding, Verdict
from ebbtide.core.lease import Lease
from ebbtide.core.making import as_far_as_made
from ebbtide.core.ports import World
from ebbtide.core.saga import Move, Phase, Plan, Saga, SagaState, StepRecord
from ebbtide.core.step import Compensatable, Step

RENEW_EVERY = 5.0
"""Seconds between renewals of a lease, a third of its length."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One thing that the engine asks to be carried out, named for people."""

    kind: str
    """`do`, `prove` or `take back`."""
    step: str
    phase: Phase

    @property
    def label(self) -> str:
        return self.step if self.kind == "do" else f"{self.kind} {self.step}"


def directly(_call: Call, function: Callable[[], T]) -> T:
    """Carry a call out right here."""
    return function()


class Engine:
    """Runs one saga over the rows of a step table."""

    def __init__(
        self,
        world: World,
        table: Sequence[Step],
        *,
        perform: Callable[[Call, Callable[[], object]], object] = directly,
        observer: events.Observer = events.unobserved,
    ) -> None:
        self._world = replace(world, tell=self._progress)
        self._table = {row.name: row for row in table}
        self._perform = perform
        self._tell = events.shielded(observer)

    def _progress(self, line: str) -> None:
        self._tell(events.Progress(line))

    def run(self, move: Move, plan: Plan, lease: Lease) -> Saga:
        """Bring the system to the target, or back to the source, or declare a halt.

        Returns the closed saga. Raises `Fenced` where another process took the
        saga over: nothing more is written then.
        """
        rows = self._rows(plan)
        reach("saga/opened")
        with self._kept(lease) as check:
            saga = self._forward(move, list(enumerate(rows)), rows, lease, check)
        self._tell(events.SagaClosed(saga))
        return saga

    def resume(self, move: Move, plan: Mapping[str, Any], lease: Lease) -> Saga:
        """Finish what a process left behind that held the saga before, from the stored plan.

        Forward where everything up to the proof was passed and nothing taken
        back, else back: what stands outside is read again by each step's own
        undo. Raises `PlanChanged` where this version's rows are not the plan's.
        """
        rows = self._rows_of(plan)
        reach("saga/taken-over")
        with self._kept(lease) as check:
            saga = self._finish(move, rows, lease, check)
        self._tell(events.SagaClosed(saga))
        return saga

    def check(self, plan: Mapping[str, Any]) -> None:
        """Raises `PlanChanged` where this version's rows are not the stored plan's."""
        self._rows_of(plan)

    def give_up(self, lease: Lease, why: str) -> Saga:
        """Declare a halt without another attempt; what is left is every step that stands."""
        left = [
            f"take back {record.name}"
            for record in reversed(self._standing(lease))
            if self._table[record.name].compensates
        ]
        return self._world.journal.close_saga(lease, SagaState.NEEDS_HUMAN, why, left)

    def _finish(
        self, move: Move, rows: list[Step], lease: Lease, check: Callable[[], None]
    ) -> Saga:
        records = {record.n: record for record in self._world.journal.steps(lease.saga)}
        settled = [n for n, record in records.items() if _passed(record)]
        proof = [n for n, row in enumerate(rows) if row.phase is not Phase.SETTLE]
        if set(proof) <= set(settled):
            open_rows = [(n, row) for n, row in enumerate(rows) if n not in settled]
            return self._forward(move, open_rows, rows, lease, check)
        last = rows[max(records, default=0)]
        return self._back(last, rows, move, lease, f"{last.name}: its process died; taken back")

    def _rows(self, plan: Plan) -> list[Step]:
        strange = [planned.name for planned in plan.steps if planned.name not in self._table]
        if strange:
            raise PlanChanged(
                f"The plan has steps that this version does not know: {', '.join(strange)}.",
                remedy="Plan anew, or resume with the version that made the plan.",
            )
        return [self._table[planned.name] for planned in plan.steps]

    def _rows_of(self, plan: Mapping[str, Any]) -> list[Step]:
        """The rows of a stored plan, where they are still what they were."""
        planned = [(step["name"], step["phase"], step["layer"]) for step in plan["steps"]]
        mine = {row.name: (row.name, row.phase.value, row.layer) for row in self._table.values()}
        strange = [step[0] for step in planned if mine.get(step[0]) != step]
        if strange:
            raise PlanChanged(
                f"The plan's steps are not those of this version: {', '.join(strange)}.",
                remedy=f"Recover it with ebbtide {plan.get('code') or 'as it was then'}.",
            )
        return [self._table[name] for name, _, _ in planned]

    def _forward(
        self,
        move: Move,
        todo: Sequence[tuple[int, Step]],
        rows: list[Step],
        lease: Lease,
        check: Callable[[], None],
    ) -> Saga:
        unsettled: list[str] = []
        for n, row in todo:
            try:
                check()
                if move.target.unmade:
                    move = replace(move, target=as_far_as_made(self._world.layers, move.target))
                self._step(n, row, move, lease)
            except Fenced:
                raise
            except (Exception, KeyboardInterrupt) as fault:
                if row.phase is not Phase.SETTLE:
                    return self._back(row, rows, move, lease, _why(row, fault))
                unsettled.append(_why(row, fault))
        state = SagaState.NEEDS_HUMAN if unsettled else SagaState.COMPLETED
        why = "The target serves, proved; settling is not finished." if unsettled else ""
        return self._close(lease, state, why, unsettled)

    def _step(self, n: int, row: Step, move: Move, lease: Lease) -> None:
        journal, began = self._world.journal, monotonic()
        self._tell(events.StepBegan(n, row.name, row.phase))
        if row.do is None:
            finding = self._prove(row, move)
            reach(f"{row.name}/do/before-intent")
            journal.looked(lease, n, row.name, row.phase, finding, monotonic() - began)
        else:
            self._do(n, row, row.do, move, lease)
            finding = self._prove(row, move)
            journal.found(lease, n, finding)
        reach(f"{row.name}/do/proved")
        self._tell(events.StepProved(n, row.name, row.phase, finding, monotonic() - began))
        if not finding.passed:
            raise GateNotPassed(finding.why, remedy=finding.remedy)

    def _do(self, n: int, row: Step, do: Compensatable[Any], move: Move, lease: Lease) -> None:
        """Intent before effect, and its outcome after it."""
        was = do.remember(self._world, move)
        reach(f"{row.name}/do/before-intent")
        self._world.journal.intend(lease, n, row.name, row.phase, do.memory.dump(was))
        reach(f"{row.name}/do/intent-written")
        self._carry("do", row, self._fenced(lease, partial(do.do, self._world, move, was)))
        reach(f"{row.name}/do/effect-done")
        self._world.journal.done(lease, n)
        reach(f"{row.name}/do/outcome-written")

    def _prove(self, row: Step, move: Move) -> Finding:
        """What the gate finds. A gate that raises has found that it errored."""
        try:
            found = self._carry("prove", row, partial(row.prove, self._world, move))
        except EbbtideError as fault:
            return Finding(Verdict.ERRORED, fault.message, remedy=fault.remedy)
        except Exception as fault:
            return Finding(Verdict.ERRORED, f"{type(fault).__name__}: {fault}")
        if not isinstance(found, Finding):
            return Finding(Verdict.ERRORED, f"{row.name} gave no finding but {found!r}")
        return found

    def _back(self, stopped: Step, rows: list[Step], move: Move, lease: Lease, why: str) -> Saga:
        """Take back every step that was begun, newest first, the half-done one too."""
        left = []
        for record in reversed(self._standing(lease)):
            error = self._take_back(record, rows[record.n], move, lease)
            if error:
                left.append(f"take back {record.name}: {error}")
        if left:
            return self._close(lease, SagaState.NEEDS_HUMAN, why, left)
        refused = stopped.phase is Phase.PREFLIGHT
        return self._close(lease, SagaState.REFUSED if refused else SagaState.TAKEN_BACK, why)

    def _close(self, lease: Lease, state: SagaState, why: str, left: Sequence[str] = ()) -> Saga:
        reach("saga/closing")
        saga = self._world.journal.close_saga(lease, state, why, left)
        reach("saga/closed")
        return saga

    def _standing(self, lease: Lease) -> list[StepRecord]:
        """The steps that were begun and are not taken back, in their order."""
        steps = self._world.journal.steps(lease.saga)
        return sorted(
            (record for record in steps if record.undone_at is None), key=lambda record: record.n
        )

    def _take_back(self, record: StepRecord, row: Step, move: Move, lease: Lease) -> str:
        """Take one step back; what went wrong, or nothing. The others still run."""
        if row.do is None or not row.compensates:
            return ""
        was = row.do.memory.load(record.remembered)
        self._world.journal.intend_undo(lease, record.n)
        reach(f"{row.name}/undo/intent-written")
        error = ""
        try:
            undo = partial(row.undo, self._world, move, was)
            self._carry("take back", row, self._fenced(lease, undo))
        except Fenced:
            raise
        except EbbtideError as fault:
            error = str(fault)
        except Exception as fault:
            error = f"{type(fault).__name__}: {fault}"
        reach(f"{row.name}/undo/effect-done")
        self._world.journal.undone(lease, record.n, error)
        reach(f"{row.name}/undo/outcome-written")
        self._tell(events.StepTakenBack(record.n, row.name, error))
        return error

    def _fenced(self, lease: Lease, function: Callable[[], T]) -> Callable[[], T]:
        """The same, with the lease asked for again right before each write outside."""

        def call() -> T:
            with guarded(partial(self._world.journal.hold, lease)):
                return function()

        return call

    def _carry(self, kind: str, row: Step, function: Callable[[], object]) -> object:
        return self._perform(Call(kind, row.name, row.phase), function)

    @contextmanager
    def _kept(self, lease: Lease) -> Iterator[Callable[[], None]]:
        """Renew the lease meanwhile; the check raises once it is lost."""
        lost: list[Fenced] = []
        stop = threading.Event()

        def renew() -> None:
            while not stop.wait(RENEW_EVERY):
                try:
                    self._world.journal.renew(lease)
                except Fenced as fault:
                    lost.append(fault)
                    return
                except EbbtideError:
                    continue  # the journal is away: the next write will say so

        def check() -> None:
            if lost:
                raise lost[0]

        keeper = threading.Thread(target=renew, name="lease", daemon=True)
        keeper.start()
        try:
            yield check
        finally:
            stop.set()
            keeper.join()


def _passed(record: StepRecord) -> bool:
    """It held, and nobody has begun to take it back."""
    return record.verdict == Verdict.PASSED and record.undo_intent_at is None


def _why(row: Step, fault: BaseException) -> str:
    if isinstance(fault, EbbtideError):
        return f"{row.name}: {fault}"
    if isinstance(fault, KeyboardInterrupt):
        return f"{row.name}: interrupted"
    return f"{row.name}: {type(fault).__name__}: {fault}"
