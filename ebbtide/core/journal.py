"""The journal as the engine and the steps need it: its records, and what it writes and says."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ebbtide.core.debts import Debts
from ebbtide.core.effects import Outbox
from ebbtide.core.fences import Fences
from ebbtide.core.gates import Finding
from ebbtide.core.lease import Lease
from ebbtide.core.outputs import Ledger
from ebbtide.core.release import Evidence, Golden, Release
from ebbtide.core.retention import (
    GivingUp,
)
from ebbtide.core.saga import Level, Phase, Plan, Saga, SagaState, StepRecord
from ebbtide.core.tenure import Tenure


@dataclass(frozen=True, slots=True)
class Route:
    """The one authoritative pointer of a system."""

    system: str
    release: str
    epoch: int
    token: str
    """Never used twice: the prefix of every cache key of this epoch."""
    candidate: str
    """The release that replicas are asked to hold warm, or empty."""
    saga: str
    """The saga that set it."""
    since: float


@dataclass(frozen=True, slots=True)
class Replica:
    """One serving process, as it last reported itself."""

    name: str
    url: str
    release: str
    epoch: int
    loaded: tuple[str, ...]
    """Ids of the releases that it holds warm."""
    refused: Mapping[str, str]
    """Why it could not load a release, by id."""
    age: float
    """Seconds since its last report, by the journal's clock."""
    token: str = field(default="", repr=False)
    """Who asks more of it than answers must say this; readers of the journal know it."""


@dataclass(frozen=True, slots=True)
class Run:
    """How long one completed saga took, in seconds from its opening."""

    saga: str
    ended: float
    """When, in seconds since the epoch."""
    switched: float | None
    """Until the route was switched; None where that is not recorded."""
    seconds: float
    """Until it was closed: proved and settled."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    n: int
    at: float
    system: str
    who: str
    what: str
    saga: str
    detail: Mapping[str, Any]
    previous: str
    digest: str


class Journal(Debts, Fences, GivingUp, Ledger, Outbox, Protocol):
    """The durable log. Every write is one transaction with its audit entry.

    Raises `Unreachable` where the database is away, `Tampered` where a record
    is not what was written, `Fenced` where the lease was taken over.
    """

    # Releases

    def add_release(self, release: Release, evidence: Evidence, golden: Golden | None) -> None:
        """Record a release; the same content again only adds evidence that was missing."""

    def release(self, id_or_prefix: str, system: str = "") -> Release:
        """A release by its id or a prefix of at least 6 digits. Raises `Unknown`."""

    def releases(self, system: str) -> list[tuple[Release, Evidence]]:
        """All releases of a system, newest first."""

    def evidence(self, release: str) -> Evidence: ...

    def golden(self, release: str) -> Golden | None: ...

    def add_golden(self, release: str, golden: Golden, by: str) -> None:
        """Attach a behavioural snapshot to a release that has none."""

    # The route

    def route(self, system: str) -> Route | None: ...

    def switch_route(self, lease: Lease, *, expected: int, to: str, token: str) -> Route:
        """Compare-and-set: only where the route is at the epoch `expected`.

        Returns the route, its epoch one higher. Raises `Conflict` else.
        """

    def return_route(self, lease: Lease, *, expected: int, to: str, token: str) -> Route | None:
        """Switch back as a new epoch; `to` empty: the system serves nothing, as before."""

    def set_candidate(self, lease: Lease, release: str, *, only_from: Collection[str]) -> None: ...

    def tenures(self, system: str, limit: int | None = None) -> list[Tenure]:
        """Who served when, newest first; all of them where there is no limit."""

    def proved(self, system: str, served_for: float = 0.0) -> list[str]:
        """Ids of the releases with a proved tenure of at least so many seconds.

        Each once, by its newest such tenure, newest first.
        """

    def mark_proved(self, lease: Lease, epoch: int) -> None: ...

    # Sagas

    def open_saga(
        self,
        plan: Plan,
        *,
        by: str,
        reason: str,
        key: str = "",
        composed: Release | None = None,
    ) -> tuple[Saga, Lease]:
        """Open the one saga of a system, and record its `composed` target with it.

        Raises `SagaOpen` where one is open, `PlanChanged` where the route is not
        at the plan's source and epoch.
        """

    def renew(self, lease: Lease) -> None: ...

    def hold(self, lease: Lease) -> None:
        """Raises `Fenced` where the lease was taken over or its saga is closed. Reads only."""

    def abandoned(self, system: str = "") -> list[Saga]:
        """Open sagas whose lease has run out, oldest first; of all systems where it is empty."""

    def take_over(self, saga: str, *, by: str) -> Lease:
        """Hold an abandoned saga, or one that needed a person, under a new lease epoch.

        Raises `SagaOpen` where the lease still runs, `Refused` where there is
        nothing to recover, `Unknown`.
        """

    def record_target(self, lease: Lease, release: Release) -> None:
        """What the saga's target has become, now that all of it is made. Idempotent.

        Records the release as composed where it is new. Raises `Conflict` where
        the saga has another whole target already.
        """

    def intend(self, lease: Lease, n: int, name: str, phase: Phase, remembered: Any) -> None:
        """The step is about to act."""

    def looked(
        self, lease: Lease, n: int, name: str, phase: Phase, finding: Finding, seconds: float
    ) -> None:
        """What a gate found that took so many seconds: without an effect, no intent comes first."""

    def done(self, lease: Lease, n: int) -> None: ...

    def found(self, lease: Lease, n: int, finding: Finding) -> None: ...

    def intend_undo(self, lease: Lease, n: int) -> None: ...

    def undone(self, lease: Lease, n: int, error: str = "") -> None: ...

    def close_saga(
        self, lease: Lease, state: SagaState, why: str = "", left: Sequence[str] = ()
    ) -> Saga: ...

    def saga(self, id_or_prefix: str) -> Saga: ...

    def saga_by_key(self, system: str, key: str) -> Saga | None:
        """The saga that an order of that key became; None where there was none."""

    def sagas(self, system: str, limit: int = 50) -> list[Saga]: ...

    def steps(self, saga: str) -> list[StepRecord]: ...

    def durations(self, system: str, level: Level) -> Mapping[str, list[float]]:
        """Seconds from intent to proved of completed sagas' steps, by step name."""

    def runs(self, system: str, level: Level, limit: int = 50) -> list[Run]:
        """How long the newest completed sagas of a level took, newest first."""

    # Quarantine

    def quarantine(self, lease: Lease, digests: Mapping[str, str], reason: str) -> None:
        """Deny contents; `digests` maps a release id or a pin's digest to what it is."""

    def lift_quarantine(
        self, system: str, digests: Collection[str], *, by: str, reason: str
    ) -> Mapping[str, str]:
        """Deny contents no longer; those that were denied, with why, by digest."""

    def quarantined(self, system: str) -> Mapping[str, str]:
        """Why each denied content is denied, by digest."""

    # Replicas

    def report(self, system: str, replica: Replica) -> None: ...

    def replicas(self, system: str, within: float) -> list[Replica]:
        """Those that reported in the last `within` seconds."""

    def forget(self, system: str, name: str, url: str) -> None:
        """A replica has ended: it is not alive any more. Only where it reported that URL."""

    # The audit trail

    def audit(self, system: str, limit: int = 100) -> list[AuditEntry]: ...

    def verify(self) -> list[str]:
        """What is wrong with the audit chain and the stored manifests; empty: nothing."""

    def now(self) -> float:
        """Seconds since the epoch by the database's clock."""

    def try_write(self) -> None:
        """Begin a write and leave it: raises `Unreachable` where none could be made now."""

    def close(self) -> None:
        """Let the database go: nothing can be asked of it any more."""
