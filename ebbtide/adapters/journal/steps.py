"""Steps in the journal: intent before effect, each word one durable transaction.

All may be said twice, as a recovery does; what was said first stays.
"""

from typing import Any

from sqlalchemy import Row, bindparam, select

from ebbtide.adapters.journal.audit import What, Writing, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.ready import Ready
from ebbtide.adapters.journal.records import packed, plain, report, step_of, text_digest
from ebbtide.adapters.journal.schema import steps
from ebbtide.core.errors import PlanChanged, Tampered
from ebbtide.core.gates import Finding
from ebbtide.core.lease import Lease
from ebbtide.core.saga import Phase, StepRecord

_MINE = (steps.c.saga == bindparam("of"), steps.c.n == bindparam("at"))
_FOUND = Ready(select(steps).where(*_MINE))
_STEP = Ready(
    steps.insert(),
    (
        "saga", "n", "name", "phase", "remembered", "intent_at", "done_at",
        "verdict", "why", "measured", "undo_error",
    ),
)  # fmt: skip
_UPDATES: dict[tuple[str, ...], Ready] = {
    columns: Ready(steps.update().where(*_MINE), columns)
    for columns in (
        ("done_at",),
        ("verdict", "why", "measured", "proved_at"),
        ("undo_intent_at",),
        ("undone_at", "undo_error"),
    )
}

_NOT_YET = {"verdict": "", "why": "", "measured": "{}", "undo_error": ""}


class Steps:
    """The part of `ebbtide.core.journal.Journal` that keeps a saga's steps."""

    _database: Database

    def intend(
        self,
        lease: Lease,
        n: int,
        name: str,
        phase: Phase,
        remembered: Any,
    ) -> None:
        """Write down that a step is about to act, and what was there before.

        Said again, the first memory stays: by then the world may show the
        step's own effect. Raises `PlanChanged` where step `n` is another one,
        ValueError or TypeError for a memory that JSON cannot hold exactly.
        """
        memory = packed(remembered)
        with writing(self._database) as write:
            by = write.fence(lease).ordered_by
            _intend(write, lease, by, n, name, phase, memory, began=write.now)

    def looked(
        self, lease: Lease, n: int, name: str, phase: Phase, finding: Finding, seconds: float
    ) -> None:
        """What a gate found that took so many seconds: without an effect, no intent comes first.

        Raises `PlanChanged` where step `n` is another one.
        """
        with writing(self._database) as write:
            by, began = write.fence(lease).ordered_by, write.now - round(seconds * 1_000_000)
            _intend(write, lease, by, n, name, phase, packed(None), began=began, done=write.now)
            _find_out(write, lease, by, _get(write, lease, n), finding)

    def done(self, lease: Lease, n: int) -> None:
        """The step's effect is there. Raises `Tampered` for a step that was never intended."""
        with writing(self._database) as write:
            by, row = write.fence(lease).ordered_by, _get(write, lease, n)
            if row.done_at is None:
                _update(write, lease, n, done_at=write.now)
                _tell(write, What.STEP_DONE, lease, by, n, row.name)

    def found(self, lease: Lease, n: int, finding: Finding) -> None:
        """What the step's proof found. The newest counts; only a pass sets `proved_at`."""
        with writing(self._database) as write:
            by, row = write.fence(lease).ordered_by, _get(write, lease, n)
            _find_out(write, lease, by, row, finding)

    def intend_undo(self, lease: Lease, n: int) -> None:
        """The step is about to be taken back."""
        with writing(self._database) as write:
            by, row = write.fence(lease).ordered_by, _get(write, lease, n)
            if row.undo_intent_at is None:
                _update(write, lease, n, undo_intent_at=write.now)
                _tell(write, What.UNDO_INTENDED, lease, by, n, row.name)

    def undone(self, lease: Lease, n: int, error: str = "") -> None:
        """The step was taken back, or could not be for `error`. A success stays one."""
        with writing(self._database) as write:
            by, row = write.fence(lease).ordered_by, _get(write, lease, n)
            if row.undone_at is not None:
                return
            _update(
                write,
                lease,
                n,
                undone_at=None if error else write.now,
                undo_error=plain(error),
            )
            what = What.UNDO_FAILED if error else What.STEP_UNDONE
            _tell(write, what, lease, by, n, row.name, error=error)

    def steps(self, saga: str) -> list[StepRecord]:
        """The steps of a saga, by its full id, in their order."""
        query = select(steps).where(steps.c.saga == saga).order_by(steps.c.n)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [step_of(row) for row in rows]


def _intend(
    write: Writing,
    lease: Lease,
    by: str,
    n: int,
    name: str,
    phase: Phase,
    memory: str,
    *,
    began: int,
    done: int | None = None,
) -> None:
    known = _find(write, lease, n)
    if known is not None:
        _refuse_other(known, name, phase)
        return
    of = {"saga": lease.saga, "n": n, "name": name, "phase": phase.value}
    times = {"intent_at": began, "done_at": done}
    _STEP.run(write.connection, {**of, "remembered": memory, **times, **_NOT_YET})
    _tell(write, What.STEP_INTENDED, lease, by, n, name, remembered=text_digest(memory))


def _find_out(write: Writing, lease: Lease, by: str, row: Row[Any], finding: Finding) -> None:
    since = row.proved_at if row.proved_at is not None else write.now
    _update(
        write,
        lease,
        row.n,
        verdict=finding.verdict.value,
        why=plain(finding.why),
        measured=packed(report(finding.measured)),
        proved_at=since if finding.passed else None,
    )
    told = {"verdict": finding.verdict, "why": finding.why}
    _tell(write, What.STEP_FOUND, lease, by, row.n, row.name, **told)


def _find(write: Writing, lease: Lease, n: int) -> Row[Any] | None:
    return _FOUND.run(write.connection, {"of": lease.saga, "at": n}).one_or_none()


def _refuse_other(known: Row[Any], name: str, phase: Phase) -> None:
    if (known.name, known.phase) != (name, phase.value):
        raise PlanChanged(
            f"Step {known.n} of saga {known.saga} is `{known.name}`, not `{name}`.",
            remedy="Recover it with the version of ebbtide that opened it.",
        )


def _get(write: Writing, lease: Lease, n: int) -> Row[Any]:
    row = _find(write, lease, n)
    if row is None:
        raise Tampered(f"Saga {lease.saga} has no step {n}: its intent was never written.")
    return row


def _update(write: Writing, lease: Lease, n: int, **values: Any) -> None:
    _UPDATES[tuple(values)].run(write.connection, {"of": lease.saga, "at": n, **values})


def _tell(
    write: Writing, what: What, lease: Lease, by: str, n: int, name: str, **detail: Any
) -> None:
    write.append(what, system=lease.system, who=by, saga=lease.saga, step=n, name=name, **detail)
