"""Releases in the journal: manifests, evidence, behavioural snapshots."""

from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, select

from ebbtide.adapters.journal.audit import What, Writing, writing
from ebbtide.adapters.journal.database import Database
from ebbtide.adapters.journal.faults import reading
from ebbtide.adapters.journal.records import (
    evidence_json,
    evidence_of,
    golden_of,
    golden_text,
    looked_up,
    packed,
    release_of,
    seconds,
    text_digest,
)
from ebbtide.adapters.journal.schema import given_up, releases, snapshots
from ebbtide.core.errors import Conflict, Tampered, Unknown
from ebbtide.core.release import Evidence, Golden, Release


class Releases:
    """The part of `ebbtide.core.journal.Journal` that keeps releases."""

    _database: Database

    def add_release(self, release: Release, evidence: Evidence, golden: Golden | None) -> None:
        """Record a release; the same content again only adds evidence that was missing.

        Who recorded it first, and when, stays. What was composed and is recorded
        again as deployed is composed no longer, and what was given up is kept again.
        `evidence.golden` is set here, from the snapshot; `evidence.at` where it is 0.
        """
        with writing(self._database) as write:
            recorded = _recorded(write.connection, release.id)
            if recorded is None:
                _insert(write, release, evidence, golden)
            else:
                _complete(write, release, recorded, evidence, golden)
                _keep_again(write, release, evidence.by)

    def add_golden(self, release: str, golden: Golden, by: str) -> None:
        """Attach a behavioural snapshot to a release that has none.

        Raises `Unknown`, and `Conflict` where the release has another snapshot.
        """
        with writing(self._database) as write:
            recorded = _recorded(write.connection, release)
            if recorded is None:
                raise _unknown(release)
            if recorded.golden == golden.digest:
                return
            if recorded.golden:
                raise Conflict(
                    f"Release {release[:12]} has another behavioural snapshot already.",
                    remedy="A snapshot is never replaced: record a new release.",
                )
            _insert_golden(write.connection, release, golden)
            row = write.connection.execute(_row(release)).one()
            whole = replace(recorded, golden=golden.digest)
            _update_evidence(write, row.system, release, whole, by)

    def release(self, id_or_prefix: str, system: str = "") -> Release:
        """A release by its id or a prefix of at least 6 digits. Raises `Unknown`."""
        query = select(releases)
        if system:
            query = query.where(releases.c.system == system)
        with self._database.read() as connection:
            row = looked_up(connection, query, releases.c.id, id_or_prefix, "release")
        return release_of(row)

    def releases(self, system: str) -> list[tuple[Release, Evidence]]:
        """All releases of a system, newest first."""
        query = select(releases).where(releases.c.system == system)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(releases.c.entry.desc())).all()
        return [(release_of(row), evidence_of(row)) for row in rows]

    def evidence(self, release: str) -> Evidence:
        """What is known of a release, by its full id. Raises `Unknown`."""
        with self._database.read() as connection:
            found = _recorded(connection, release)
        if found is None:
            raise _unknown(release)
        return found

    def golden(self, release: str) -> Golden | None:
        """The snapshot of a release; None where it has none. Raises `Unknown`, `Tampered`."""
        with self._database.read() as connection:
            recorded = _recorded(connection, release)
            content = connection.scalar(
                select(snapshots.c.content).where(snapshots.c.release == release)
            )
        if recorded is None:
            raise _unknown(release)
        if recorded.golden != (text_digest(content) if content is not None else ""):
            raise Tampered(
                f"The behavioural snapshot of release {release[:12]} is not what was recorded.",
                remedy="Run `ebbtide verify`; prove this release by no snapshot until then.",
            )
        if content is None:
            return None
        with reading(f"The behavioural snapshot of release {release[:12]}"):
            return golden_of(content)


def record_composed(
    write: Writing, release: Release, by: str, note: str, refreshes: str = ""
) -> None:
    """Record a release that a level put together, unless it is there already."""
    if _recorded(write.connection, release.id) is not None:
        _keep_again(write, release, by)
        return
    evidence = Evidence(by=by, at=0, composed=True, note=note, refreshes=refreshes)
    _insert(write, release, evidence, None)


def require_release(connection: Connection, release: str, system: str) -> None:
    """Raises `Unknown` where the system has no such release."""
    row = connection.execute(_row(release)).one_or_none()
    if row is None or row.system != system:
        raise _unknown(release)


def _row(release: str) -> Select[Any]:
    return select(releases).where(releases.c.id == release)


def _recorded(connection: Connection, release: str) -> Evidence | None:
    row = connection.execute(_row(release)).one_or_none()
    return evidence_of(row) if row is not None else None


def _unknown(release: str) -> Unknown:
    return Unknown(f"No release {release[:12]}.", remedy="`ebbtide releases` lists them.")


def _insert(write: Writing, release: Release, evidence: Evidence, golden: Golden | None) -> None:
    whole = replace(
        evidence,
        at=evidence.at or seconds(write.now),
        golden=golden.digest if golden else "",
    )
    content = packed(evidence_json(whole))
    write.connection.execute(
        releases.insert().values(
            id=release.id,
            system=release.system,
            manifest=packed(release.to_json()),
            evidence=content,
            entry=write.next_entry,
        )
    )
    if golden:
        _insert_golden(write.connection, release.id, golden)
    write.append(
        What.RELEASE_RECORDED,
        system=release.system,
        who=evidence.by,
        release=release.id,
        evidence=text_digest(content),
        golden=whole.golden,
        composed=whole.composed,
    )


def _complete(
    write: Writing,
    release: Release,
    was: Evidence,
    new: Evidence,
    golden: Golden | None,
) -> None:
    if golden and not was.golden:
        _insert_golden(write.connection, release.id, golden)
    whole = replace(
        was,
        composed=was.composed and new.composed,
        note=was.note or new.note,
        refreshes=was.refreshes or new.refreshes,
        findings={**new.findings, **was.findings},
        metrics={**new.metrics, **was.metrics},
        golden=was.golden or (golden.digest if golden else ""),
    )
    if evidence_json(whole) != evidence_json(was):
        _update_evidence(write, release.system, release.id, whole, new.by)


def _keep_again(write: Writing, release: Release, by: str) -> None:
    """Somebody has brought together again all that it needs."""
    mine = given_up.delete().where(given_up.c.release == release.id)
    if write.connection.execute(mine).rowcount:
        write.append(What.KEPT_AGAIN, system=release.system, who=by, release=release.id)


def _update_evidence(
    write: Writing, system: str, release: str, evidence: Evidence, by: str
) -> None:
    content = packed(evidence_json(evidence))
    write.connection.execute(
        releases.update().where(releases.c.id == release).values(evidence=content)
    )
    write.append(
        What.EVIDENCE_ADDED,
        system=system,
        who=by,
        release=release,
        evidence=text_digest(content),
        golden=evidence.golden,
        composed=evidence.composed,
    )


def _insert_golden(connection: Connection, release: str, golden: Golden) -> None:
    connection.execute(snapshots.insert().values(release=release, content=golden_text(golden)))
