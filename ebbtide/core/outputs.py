"""Batch outputs: what each release wrote, who has read it, and what is taken back of it.

The ledger in the journal says what is valid; the table holds the rows. A *part*
is one partition as one run wrote it: it is what is written, recalled and
replaced, always whole.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from ebbtide.core.errors import Refused
from ebbtide.core.lease import Lease


class PartState(StrEnum):
    """How a part stands, by the ledger."""

    BEGUN = "begun"
    """Intended; whether its rows are there is settled by reading the table."""
    VALID = "valid"
    REPLACED = "replaced"
    """Another run has written the partition since."""
    INVALID = "invalid"
    """Recalled: no reader through the view sees it, and its partition waits for a replacement."""
    RESCORED = "invalid, replaced"


@dataclass(frozen=True, slots=True)
class OutputRun:
    """One run of a job, bound to the release that it scores with."""

    system: str
    id: str
    """The job's own name of this run: the same id is the same run, also after a crash."""
    release: str
    models: Mapping[str, str]
    """Registry versions of the release's models, by name."""
    began_at: float


@dataclass(frozen=True, slots=True)
class Part:
    """One partition of an output as one run wrote it. Times: seconds since the epoch."""

    system: str
    output: str
    partition: str
    run: str
    release: str
    models: Mapping[str, str]
    begun_at: float
    written_at: float | None = None
    rows: int | None = None
    version: int | None = None
    """The table's version in which it was read back."""
    replaced_by: str = ""
    """The run that wrote the partition since."""
    recall: str = ""
    """The recall that made it invalid."""
    marked: bool = False
    """The table's rows carry the mark as well, or are there no more."""

    @property
    def state(self) -> PartState:
        if self.recall:
            return PartState.RESCORED if self.replaced_by else PartState.INVALID
        if self.replaced_by:
            return PartState.REPLACED
        return PartState.BEGUN if self.written_at is None else PartState.VALID


@dataclass(frozen=True, slots=True)
class Blame:
    """What is wrong: all that a release wrote, that a model scored, or of a time.

    Exactly one of the three. `since` and `until` are seconds since the epoch.
    """

    release: str = ""
    model: str = ""
    version: str = ""
    since: float | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        ways = (bool(self.release), bool(self.model and self.version), self.since is not None)
        if sum(ways) != 1 or (self.since is None) != (self.until is None):
            raise Refused(
                "What is invalid is not said.",
                remedy="Name a release, or a model and its version, or both ends of a time.",
            )
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise Refused("The time ends before it begins.", remedy="Change its ends round.")

    def covers(self, part: Part, now: float) -> bool:
        """A part belongs to a time if any of its writing fell into it."""
        if self.since is not None and self.until is not None:
            return part.begun_at < self.until and (part.written_at or now) >= self.since
        return self.covers_run(part)

    def covers_run(self, run: OutputRun | Part) -> bool:
        """Whatever the run writes is covered, also what it has yet to write."""
        if self.release:
            return run.release == self.release
        return bool(self.model) and run.models.get(self.model) == self.version

    def to_json(self) -> dict[str, Any]:
        return {
            "release": self.release,
            "model": self.model,
            "version": self.version,
            "since": self.since,
            "until": self.until,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Blame":
        return cls(**data)

    def __str__(self) -> str:
        if self.release:
            return f"release {self.release[:12]}"
        if self.model:
            return f"model {self.model} {self.version}"
        return f"what was written from {self.since} to {self.until}"


@dataclass(frozen=True, slots=True)
class Recall:
    """Somebody, or a saga, has said that outputs are bad."""

    id: str
    system: str
    blame: Blame
    by: str
    reason: str
    saga: str
    at: float


@dataclass(frozen=True, slots=True)
class Read:
    """What a consumer was given, and when first and last."""

    output: str
    consumer: str
    parts: frozenset[tuple[str, str]]
    """Partition and run of each."""
    first_at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class Standing:
    """What the table itself shows of one partition."""

    run: str
    """Empty where the rows are not one run's: somebody wrote past ebbtide."""
    rows: int
    version: int
    valid: bool


@dataclass(frozen=True, slots=True)
class OutputTold:
    """What the system file says of an output beside its place."""

    rescore: str = ""
    """`module:function` that scores a partition anew; empty: there is none."""
    consumers: Mapping[str, str] = field(default_factory=dict)
    """Declared consumers, with whom to tell."""


class Ledger(Protocol):
    """The part of the journal that keeps outputs."""

    def begin_run(self, system: str, run: str, release: str) -> OutputRun:
        """Bind a run to a release; the binding that is there, where it was bound before.

        Raises `Conflict` where it is bound to another release, `Quarantined`
        where the release, a content of it, or the run itself was taken back
        since, `Unknown` for a release that the system does not have.
        """

    def output_run(self, system: str, run: str) -> OutputRun | None: ...

    def begin_part(self, run: OutputRun, output: str, partition: str) -> Part:
        """The run is about to replace the partition. Idempotent.

        Raises `Quarantined` as `begin_run`, and where this very part was recalled.
        """

    def finish_part(
        self, begun: Part, *, rows: int | None, version: int, replaced_by: str = ""
    ) -> Part:
        """The part was read back from the table, at a version. Idempotent.

        `replaced_by`: the run whose rows stood there by then instead. What was
        recalled meanwhile stays so: look at the `state` that is returned.
        """

    def part(self, system: str, output: str, partition: str, run: str) -> Part | None: ...

    def parts(self, system: str, output: str = "", *, standing: bool = False) -> list[Part]:
        """Parts in the order of their beginning; `standing`: without those that were replaced."""

    def recall(
        self,
        system: str,
        blame: Blame,
        *,
        by: str,
        reason: str,
        lease: "Lease | None" = None,
    ) -> list[Part]:
        """Make all that is to blame invalid, also what its runs have yet to write.

        Returns the parts that are blamed, whichever recall made them invalid.
        Where there is nothing new to recall, nothing is written. With a lease it
        is the saga's own write. Raises `Refused` for a time that is not over.
        """

    def recalls(self, system: str) -> list[Recall]: ...

    def unmarked(self, system: str) -> list[Part]:
        """Recalled parts that are not marked in their tables, in the order of their beginning."""

    def mark_parts(self, system: str, parts: Collection[Part]) -> None:
        """The table's rows carry the mark. Idempotent; only recalled parts."""

    def note_read(
        self, system: str, output: str, consumer: str, parts: Iterable[tuple[str, str]]
    ) -> None:
        """A consumer is about to be given parts, each a partition and a run."""

    def reads(self, system: str, output: str = "") -> list[Read]: ...


class OutputStore(Protocol):
    """The tables that outputs lie in. Raises `Unreachable` where one is away."""

    @property
    def told(self) -> Mapping[str, OutputTold]:
        """The outputs of the system file, by name."""

    def write(self, part: Part, rows: Any) -> Standing | None:
        """Replace the part's partition in one commit, durable when it returns, and read it back.

        `rows`: Arrow data, a pandas frame, or mappings. Raises `Refused` for rows
        that cannot be written or are none, `Conflict` where others wrote the
        same partition again and again.
        """

    def standing(self, output: str) -> Mapping[str, Standing]:
        """What the table shows now, by partition; nothing where there is no table yet."""

    def mark(self, output: str, parts: Mapping[str, str]) -> None:
        """Mark the rows of partitions invalid where a run still stands there. Idempotent."""

    def read(
        self, output: str, allowed: Any, partitions: Collection[str] | None, columns: Any
    ) -> tuple[Any, frozenset[tuple[str, str]]]:
        """Arrow batches of the partitions that `allowed` names, and which those are.

        `allowed` is asked once with what the table shows, and answers with the
        partitions that may be read: rows and answer are of one version.
        """
