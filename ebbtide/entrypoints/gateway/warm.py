"""Which releases a replica holds in memory, and why it could not load others."""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ebbtide.adapters.loading.release import LoadedRelease
from ebbtide.core.errors import Unreachable
from ebbtide.core.journal import Route
from ebbtide.core.tenure import Tenure
from ebbtide.entrypoints.gateway import garbage
from ebbtide.entrypoints.gateway.columns import Columns
from ebbtide.entrypoints.gateway.workers import Workers

_log = logging.getLogger(__name__)

_RETRY = 5.0
"""Seconds until a release that could not be loaded is tried again; doubles each time."""
_RETRY_AT_MOST = 60.0


@dataclass(frozen=True, slots=True)
class Warm:
    """A release in memory, with the threads that ask it."""

    loaded: LoadedRelease
    workers: Workers
    headers: Mapping[str, str]
    """What every answer says of the release: its id and what each layer is at."""
    columns: Columns | None = None
    """Those of the model's signature, where they are plain."""

    @classmethod
    def of(cls, loaded: LoadedRelease) -> "Warm":
        layers = {f"X-Ebbtide-{layer.title()}": text for layer, text in loaded.versions.items()}
        named = {**layers, "X-Ebbtide-Release": loaded.release_id}
        clean = {header(name): header(text) for name, text in named.items()}
        workers = Workers(f"release-{loaded.release_id[:12]}")
        return cls(loaded, workers, clean, Columns.of(loaded.schema))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a release could not be loaded, and when to try again (monotonic seconds)."""

    why: str
    again_at: float
    pause: float


@dataclass(frozen=True, slots=True)
class Held:
    """What is in memory at one moment; replaced as a whole."""

    warm: Mapping[str, Warm] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)

    @property
    def refused(self) -> dict[str, str]:
        return {release: failure.why for release, failure in self.failures.items()}


def wanted(route: Route | None, tenures: Sequence[Tenure]) -> tuple[str, ...]:
    """The releases to hold, the most urgent first.

    The one that serves, the candidate, the one that served before it, and the
    fallback: the newest release of a proved tenure that is none of these.
    `tenures` are newest first.
    """
    if route is None:
        return ()
    served = [past for past in tenures if past.release]
    before = next((past.release for past in served if past.release != route.release), "")
    proved = (past.release for past in served if past.proved)
    fallback = next((one for one in proved if one not in (route.release, before)), "")
    ids = (route.release, route.candidate, before, fallback)
    return tuple(dict.fromkeys(one for one in ids if one))


class WarmSet:
    """Loads and lets go in a thread of its own, one release after the other.

    A load that hangs is given up after `within` seconds and left behind: it
    takes nothing with it but its thread.
    """

    def __init__(
        self,
        load: Callable[[str], LoadedRelease],
        changed: Callable[[], None],
        within: float,
    ) -> None:
        """`changed` is called after each load, failure or letting go."""
        self._load = load
        self._changed = changed
        self._within = within
        self._wanted: tuple[str, ...] = ()
        self._candidate = ""
        self._wake = threading.Event()
        self._changing = threading.Lock()
        self._closing = False
        self._let_some_go = False
        self._thread = threading.Thread(target=self._run, name="warm-set", daemon=True)
        self.held = Held()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    def want(self, releases: tuple[str, ...], candidate: str, keep: Collection[str] = ()) -> None:
        """Hold these; `keep` those as well where they are held.

        A candidate that is asked for anew is tried at once, whatever it was refused for before.
        """
        anew = {candidate} - {"", self._candidate}
        self._candidate = candidate
        stay = {*releases, *keep}
        if releases != self._wanted or anew or not self.held.warm.keys() <= stay:
            self._let_go(releases, stay, anew)
            self._wake.set()

    def _let_go(self, releases: tuple[str, ...], stay: set[str], forgiven: set[str]) -> None:
        """Requests that are in flight still hold what they are answered from."""
        with self._changing:
            self._wanted, old = releases, self.held
            self.held = Held(
                {one: warm for one, warm in old.warm.items() if one in stay},
                {
                    one: failure
                    for one, failure in old.failures.items()
                    if one in releases and one not in forgiven
                },
            )
        for one in old.warm.keys() - stay:
            old.warm[one].workers.close()
            self._let_some_go = True
        self._changed()

    def _run(self) -> None:
        while not self._closing:
            due = self._due()
            if due:
                self._take(due)
            else:
                self._wake.wait(1.0)
                self._wake.clear()

    def _due(self) -> str:
        held, now = self.held, time.monotonic()
        for one in self._wanted:
            failure = held.failures.get(one)
            if one not in held.warm and (failure is None or failure.again_at <= now):
                return one
        return ""

    def _take(self, release: str) -> None:
        try:
            warm = Warm.of(self._loaded(release))
            self._let_some_go, let_go = False, self._let_some_go
            garbage.settle(let_go=let_go)
        except (Exception, SystemExit) as fault:  # noqa: BLE001 - it must not end what serves
            self._failed(release, fault)
        else:
            self._keep(release, warm)
        self._changed()

    def _keep(self, release: str, warm: Warm) -> None:
        with self._changing:
            if release not in self._wanted:
                warm.workers.close()
                return
            failures = {one: why for one, why in self.held.failures.items() if one != release}
            self.held = Held({**self.held.warm, release: warm}, failures)
        _log.info("release %s is warm", release[:12])

    def _failed(self, release: str, fault: BaseException) -> None:
        before = self.held.failures.get(release)
        pause = min(_RETRY_AT_MOST, before.pause * 2) if before else _RETRY
        why = str(fault) or type(fault).__name__
        _log.warning("release %s cannot be loaded: %s", release[:12], why, exc_info=fault)
        with self._changing:
            failure = Failure(why, time.monotonic() + pause, pause)
            self.held = Held(self.held.warm, {**self.held.failures, release: failure})

    def _loaded(self, release: str) -> LoadedRelease:
        outcome: list[LoadedRelease | BaseException] = []

        def attempt() -> None:
            try:
                outcome.append(self._load(release))
            except BaseException as fault:  # noqa: BLE001 - handed to the thread that waits
                outcome.append(fault)

        thread = threading.Thread(target=attempt, name=f"load-{release[:12]}", daemon=True)
        thread.start()
        thread.join(self._within)
        if not outcome:
            raise Unreachable(f"Loading took longer than {self._within:.0f} s.")
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]


def header(text: str) -> str:
    """What HTTP lets stand in a header."""
    return "".join(sign if " " <= sign <= "~" else "?" for sign in text)[:500]
