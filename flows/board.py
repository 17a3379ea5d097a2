"""What a flow run shows of its saga beside the task runs: its name, the plan, the outcome.

Everything here may fail or be slow, and the saga neither waits nor notices.
"""

import logging
from collections.abc import Callable, Mapping
from html import escape
from queue import SimpleQueue
from threading import Thread
from typing import Any

from ebbtide.core import events
from ebbtide.core.saga import Level, Saga

_log = logging.getLogger(__name__)

_WITHIN = 2.0
"""Seconds for one request, and for what is still to be shown at the end."""


class Board:
    """An observer that shows a saga on the flow run around it."""

    def __init__(self) -> None:
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        self._flow_run = context.flow_run.id if context and context.flow_run else None
        self._artifact: Any = None
        self._outcomes: dict[int, str] = {}
        self._todo: SimpleQueue[Callable[[Any], None] | None] = SimpleQueue()
        self._shower = Thread(target=self._show, name="board", daemon=True)
        if self._flow_run:
            self._shower.start()

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.StepProved):
            self._outcomes[event.n] = f"{event.finding.verdict}: {event.finding.why}"
        elif isinstance(event, events.StepTakenBack):
            self._outcomes[event.n] = (
                f"not taken back: {event.error}" if event.error else "taken back"
            )
        elif isinstance(event, events.SagaOpened):
            self._put(event.saga)
            self._todo.put(
                lambda client: client.set_flow_run_name(self._flow_run, title(event.saga))
            )
        elif isinstance(event, events.SagaClosed):
            self._put(event.saga)

    def finish(self) -> None:
        """Wait until everything is shown, but not for long."""
        self._todo.put(None)
        if self._flow_run:
            self._shower.join(_WITHIN)

    def _put(self, saga: Saga) -> None:
        text = markdown(saga, self._outcomes)
        self._todo.put(lambda client: self._publish(client, f"saga-{saga.system}", text))

    def _publish(self, client: Any, key: str, text: str) -> None:
        from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

        if self._artifact:
            client.update_artifact(self._artifact, ArtifactUpdate(data=text))
            return
        new = ArtifactCreate(key=key, type="markdown", data=text, flow_run_id=self._flow_run)
        self._artifact = client.create_artifact(new).id

    def _show(self) -> None:
        from prefect.client.orchestration import get_client

        try:
            with get_client(sync_client=True, httpx_settings={"timeout": _WITHIN}) as client:
                while (job := self._todo.get()) is not None:
                    job(client)
        except Exception as fault:  # noqa: BLE001 - the saga goes on
            _log.warning("Prefect does not show the plan and its outcome: %r", fault)


def title(saga: Saga) -> str:
    """The name of a flow run: what moves where."""
    verb = "promote" if saga.level is Level.PROMOTION else "rollback"
    return f"{verb} {saga.system} to {saga.target[:12]}"


def markdown(saga: Saga, outcomes: Mapping[int, str]) -> str:
    """The plan as a table, with what came of each row so far, by its number."""
    rows = [_row(step, outcomes.get(n, "")) for n, step in enumerate(saga.plan["steps"])]
    why = f": {saga.reason}" if saga.reason else ""
    move = f"{saga.source[:12] or 'nothing'} to {saga.target[:12]}"
    parts = [
        f"## {title(saga)}: {saga.state}",
        _plain(f"From {move}, at level {saga.level}, ordered by {saga.by}{why}."),
        _plain(saga.why),
        "\n".join(f"- still to be done: {_plain(left)}" for left in saga.left),
        "\n".join(["| phase | step | what | changes | outcome |", "|---|---|---|---|---|", *rows]),
    ]
    return "\n\n".join(part for part in parts if part)


def _row(step: Mapping[str, Any], outcome: str) -> str:
    changes = "<br>".join(_plain(change) for change in step["changes"])
    says = _plain(step["does"] or step["proves"])
    return f"| {step['phase']} | {step['name']} | {says} | {changes} | {_plain(outcome)} |"


def _plain(text: str) -> str:
    """Words that others wrote, so that they stay in their cell and are no markup."""
    return escape(" ".join(text.split())).replace("|", "&#124;")
