"""How task runs are told to Prefect's server, by a process that has no time for a dead one."""

from asyncio import wait_for
from typing import Any, Self

from prefect.events import Event
from prefect.events.clients import PrefectEventsClient

_WITHIN = 2.0
"""Seconds for one event. It takes a millisecond where the server is well."""


class BriefEvents(PrefectEventsClient):
    """Tells events, and gives up for good at the first that cannot be told.

    Prefect's own client tries each event for 7 s, and a process does not end
    before: after a rollback whose server died, that took more than five minutes.
    """

    _silent = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, reconnection_attempts=1)

    async def __aenter__(self) -> Self:
        await wait_for(super().__aenter__(), _WITHIN)
        return self

    async def __aexit__(self, *fault: object) -> None:
        await wait_for(super().__aexit__(*fault), _WITHIN)  # type: ignore[arg-type]  # as `with` gives it

    async def emit(self, event: Event) -> None:
        if self._silent:
            return
        try:
            await wait_for(super().emit(event), _WITHIN)
        except Exception:  # noqa: BLE001 - whatever it is, the process shall end
            self._silent = True
