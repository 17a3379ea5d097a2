"""Recalls of batch outputs in the journal: what is invalid, and by whose word."""

import secrets
from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, select

from ebbtide.adapters.journal.audit import What, Writing, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.output_records import part_of, recall_of, run_of
from ebbtide.adapters.journal.outputs import part_key
from ebbtide.adapters.journal.records import packed, plain, seconds
from ebbtide.adapters.journal.schema import output_parts, output_recalls, output_runs
from ebbtide.core.errors import Refused
from ebbtide.core.lease import Lease
from ebbtide.core.outputs import Blame, OutputRun, Part, Recall


class Recalls:
    """The part of `ebbtide.core.outputs.Ledger` that takes outputs back."""

    _database: Database

    def recall(
        self,
        system: str,
        blame: Blame,
        *,
        by: str,
        reason: str,
        lease: Lease | None = None,
    ) -> list[Part]:
        """Make all that is to blame invalid, also what its runs have yet to write.

        Returns the parts that are blamed, whichever recall made them invalid.
        Where there is nothing new to recall, nothing is written. With a lease it
        is the saga's own write. Raises `Refused` for a time that is not over.
        """
        with writing(self._database) as write:
            if lease is not None:
                write.fence(lease)
            now = seconds(write.now)
            if blame.until is not None and blame.until > now:
                raise Refused(
                    "That time is not over: what would be written in it is not known.",
                    remedy="Let it end now or earlier.",
                )
            blamed = [part for part in _parts(write, system, blame) if blame.covers(part, now)]
            new = [part for part in blamed if not part.recall]
            if new or _not_yet_recalled(write, system, blame):
                saga = lease.saga if lease else ""
                _write(write, system, blame, new, plain(by), plain(reason), saga)
            return [part_of(write.connection.execute(_row(part)).one()) for part in blamed]

    def recalls(self, system: str) -> list[Recall]:
        """Recalls of a system, oldest first."""
        with self._database.read() as connection:
            query = select(output_recalls).where(output_recalls.c.system == system)
            rows = connection.execute(query.order_by(output_recalls.c.at)).all()
        return [recall_of(row) for row in rows]

    def unmarked(self, system: str) -> list[Part]:
        """Recalled parts that are not marked in their tables, in the order of their beginning."""
        query = select(output_parts).where(
            output_parts.c.system == system,
            output_parts.c.recall != "",
            output_parts.c.marked.is_(False),
        )
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(output_parts.c.entry)).all()
        return [part_of(row) for row in rows]

    def mark_parts(self, system: str, parts: Collection[Part]) -> None:
        """The table's rows carry the mark. Idempotent; only recalled parts."""
        with writing(self._database) as write:
            rows = [write.connection.execute(_row(part)).one_or_none() for part in parts]
            now = [part_of(row) for row in rows if row is not None]
            new = [part for part in now if part.recall and not part.marked]
            for part in new:
                write.connection.execute(
                    output_parts.update().where(part_key(part)).values(marked=True)
                )
            if new:
                write.append(What.OUTPUTS_MARKED, system=system, who="", parts=_keys(new))


def _row(part: Part) -> Select[Any]:
    return select(output_parts).where(part_key(part))


def _parts(write: Writing, system: str, blame: Blame) -> list[Part]:
    query = select(output_parts).where(output_parts.c.system == system)
    if blame.release:
        query = query.where(output_parts.c.release == blame.release)
    if blame.until is not None:
        query = query.where(output_parts.c.begun_at < round(blame.until * 1_000_000))
    return [part_of(row) for row in write.connection.execute(query.order_by(output_parts.c.entry))]


def _not_yet_recalled(write: Writing, system: str, blame: Blame) -> list[OutputRun]:
    """Runs that are to blame and began after every recall of the same."""
    earlier = select(output_recalls).where(output_recalls.c.system == system)
    recalls = [recall_of(row) for row in write.connection.execute(earlier)]
    last = max((recall.at for recall in recalls if recall.blame == blame), default=-1.0)
    query = select(output_runs).where(
        output_runs.c.system == system, output_runs.c.began_at > round(last * 1_000_000)
    )
    runs = [run_of(row) for row in write.connection.execute(query)]
    return [run for run in runs if blame.since is None and blame.covers_run(run)]


def _write(
    write: Writing, system: str, blame: Blame, new: list[Part], by: str, reason: str, saga: str
) -> None:
    recall = secrets.token_hex(8)
    write.connection.execute(
        output_recalls.insert().values(
            id=recall,
            system=system,
            blame=packed(blame.to_json()),
            by=by,
            reason=reason,
            saga=saga,
            at=write.now,
        )
    )
    for part in new:
        write.connection.execute(output_parts.update().where(part_key(part)).values(recall=recall))
    write.append(
        What.OUTPUTS_RECALLED,
        system=system,
        who=by,
        saga=saga,
        recall=recall,
        blame=blame.to_json(),
        reason=reason,
        parts=_keys(new),
    )


def _keys(parts: list[Part]) -> list[list[str]]:
    return [[part.output, part.partition, part.run] for part in parts]
