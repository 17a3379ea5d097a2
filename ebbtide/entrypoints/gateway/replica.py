"""One replica: follows the route, serves from one release, says what it serves."""

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Any

from ebbtide.adapters.loading.release import LoadedRelease, load
from ebbtide.core.errors import EbbtideError, Unreachable
from ebbtide.core.journal import Replica, Route
from ebbtide.core.ports import World
from ebbtide.entrypoints.gateway.live import Live
from ebbtide.entrypoints.gateway.rehearsal import Rehearsal
from ebbtide.entrypoints.gateway.warm import Warm, WarmSet, wanted

_log = logging.getLogger(__name__)

_POLL = 0.02
"""Seconds between two looks at the route."""
_POLL_CLOSELY = 0.004
"""The same while a candidate is held warm: the route is about to be switched to it."""
_HEARTBEAT = 1.0
_WAKE_WITHIN = 0.5
"""Seconds that a request waits for the look at the route after a long sleep."""
_RECENT = 50
"""Newest tenures among which the releases to hold warm are looked for."""


class ServingReplica:
    """Swaps `live` when the route has moved and the release is warm; never before.

    Where the journal is away, or the new release cannot be loaded, it goes on
    with what it has and says so.
    """

    def __init__(self, world: World, handler: str, name: str, rehearsal: Rehearsal) -> None:
        self.name = name
        self.token = secrets.token_hex(16)
        """Reported to the journal: who knows it may order rollbacks too."""
        self.live: Live | None = None
        self._url = ""
        self._world = world
        self._handler = handler
        self._route: Route | None = None
        self._wanted_for: Route | None = None
        self._older: Route | None = None
        self._why = "the route has not been read yet"
        self._reported_at = 0.0
        self._looked_at = time.monotonic()
        """When the route was last looked at, whether the journal answered or not."""
        self._looking = threading.Lock()
        self._changed = threading.Event()
        self._changed.set()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="route", daemon=True)
        self._warm = WarmSet(self._load, self._changed.set, world.policy.warm_within)
        self._rehearsal = rehearsal

    def start(self, url: str) -> None:
        """Begin to follow the route. `url` is where others reach this replica."""
        self._url = url
        self._warm.start()
        self._rehearsal.start(self._changed.set)
        self._thread.start()

    def close(self) -> None:
        """Follow the route no longer, and let the journal forget this replica."""
        self._closing.set()
        self._rehearsal.close()
        self._warm.close()
        self._thread.join(2.0)
        if self._url:
            try:
                self._world.journal.forget(self._world.system, self.name, self._url)
            except EbbtideError as fault:
                _log.warning("the journal goes on counting this replica a while: %s", fault)

    @property
    def overslept(self) -> bool:
        """This process was not running for so long that others may not count on it any more."""
        return time.monotonic() - self._looked_at > self._world.policy.heartbeat_within

    def wake(self) -> None:
        """Look at the route before anything is answered: it may have moved meanwhile.

        Where the journal is away, what serves goes on: nobody can have moved it there.
        """
        if self._looking.acquire(timeout=_WAKE_WITHIN):
            try:
                if self.overslept:
                    self._look()
            finally:
                self._looking.release()

    def warm(self, release: str) -> Warm | None:
        """A release that is held, live or not."""
        return self._warm.held.warm.get(release)

    @property
    def held(self) -> tuple[int, int]:
        """How many releases are warm, and how many could not be loaded."""
        held = self._warm.held
        return len(held.warm), len(held.failures)

    def why_not(self) -> str:
        """Why nothing is served; empty where something is."""
        if self.live is not None:
            return ""
        route = self._route
        if route is None or not route.release:
            return self._why
        why = self._warm.held.refused.get(route.release)
        return f"release {route.release[:12]}: {why or 'is being loaded'}"

    def _run(self) -> None:
        while not self._closing.is_set():
            with self._looking:
                well = self._look()
            if not well:
                self._closing.wait(_HEARTBEAT / 4)
            near = self._route is not None and self._route.candidate
            self._closing.wait(_POLL_CLOSELY if near else _POLL)

    def _look(self) -> bool:
        try:
            self._follow()
        except Exception as fault:  # noqa: BLE001 - the journal may be away; what serves goes on
            self._complain(fault)
            return False
        finally:
            self._looked_at = time.monotonic()
        return True

    def _follow(self) -> None:
        route = self._world.journal.route(self._world.system)
        self._route, self._why = route, "the system has no route yet"
        beat = time.monotonic() - self._reported_at >= _HEARTBEAT
        swapped = self._swap(route)
        self._rehearse(route)
        if swapped or beat or self._changed.is_set():
            # Cleared first: what changes during the report is reported the next time.
            self._changed.clear()
            self._report()
        if swapped or route != self._wanted_for:
            self._want(route)

    def _swap(self, route: Route | None) -> bool:
        """Serve what the route says, where it is warm. True where `live` is another now."""
        live = self.live
        if route is None or not route.release:
            self.live = None
            return live is not None
        if live is not None and (live.epoch, live.token) == (route.epoch, route.token):
            return False
        if live is not None and route.epoch < live.epoch:
            self._refuse_older(route)
            return False
        warm = self.warm(route.release)
        if warm is None:
            return False
        ahead = self._rehearsal.answers(route.release)
        self.live = Live(warm, route.epoch, route.token, ahead)
        _log.info("serving release %s in epoch %d", route.release[:12], route.epoch)
        return True

    def _rehearse(self, route: Route | None) -> None:
        """Have what is held warm and does not serve be asked what is asked of what does."""
        serves = self.live.release if self.live else ""
        aside = {one: warm for one, warm in self._warm.held.warm.items() if one != serves}
        self._rehearsal.follow(aside, route.candidate if route else "")

    def _refuse_older(self, route: Route) -> None:
        """Epochs only grow: the journal has lost some, and nobody may guess what it would say."""
        if route != self._older:
            _log.warning(
                "the route went back to epoch %d: an older journal was restored", route.epoch
            )
            self._older = route

    def _want(self, route: Route | None) -> None:
        journal, system = self._world.journal, self._world.system
        tenures = journal.tenures(system, limit=_RECENT) if route else []
        live = self.live
        keep = (live.release,) if live else ()
        self._warm.want(wanted(route, tenures), route.candidate if route else "", keep)
        self._wanted_for = route

    def _report(self) -> None:
        live, held, route = self.live, self._warm.held, self._route
        # A route that was cleared is acknowledged too: nothing is served in that epoch.
        cleared = route.epoch if route and not route.release else 0
        self._world.journal.report(
            self._world.system,
            Replica(
                name=self.name,
                url=self._url,
                release=live.release if live else "",
                epoch=live.epoch if live else cleared,
                loaded=tuple(one for one in held.warm if one != self._rehearsal.awaited),
                refused=held.refused,
                age=0.0,
                token=self.token,
            ),
        )
        self._reported_at = time.monotonic()

    def _complain(self, fault: Exception) -> None:
        self._changed.set()
        why = f"the journal cannot be followed: {fault}"
        if why != self._why:
            _log.warning("%s", why)
            self._why = why

    def _load(self, release_id: str) -> LoadedRelease:
        release = self._world.journal.release(release_id, self._world.system)
        if release.id != release_id:
            raise Unreachable(f"The journal gave {release.short} for {release_id[:12]}.")
        loaded = load(release, self._world.layers, self._handler)
        _warm_up(loaded, self._world.smoke)
        return loaded


def _warm_up(loaded: LoadedRelease, rows: Sequence[Any]) -> None:
    """Have the first, slow answer behind us. Whether it is right is for the gates to say."""
    if rows:
        try:
            loaded.answer(list(rows))
        except Exception as fault:  # noqa: BLE001 - it may serve all the same
            _log.warning(
                "release %s does not answer smoke rows: %s",
                loaded.release_id[:12],
                fault,
            )
