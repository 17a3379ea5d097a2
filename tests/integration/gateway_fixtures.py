"""A gateway in a thread, over real HTTP, and the clients that ask it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ebbtide.core.journal import Replica
from ebbtide.core.ports import World
from ebbtide.entrypoints.gateway import Gateway
from tests.integration.serving_world import HANDLER, SYSTEM, Marked, marks

WITHIN = 60.0


def until(holds: Callable[[], Any], what: str, within: float = WITHIN) -> Any:
    """Wait for a condition; its value."""
    end = time.monotonic() + within
    while not (value := holds()):
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.005)
    return value


class Client:
    """One keep-alive connection to a gateway."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def ask(self, x: float = 1.0, release: str = "", **headers: str) -> httpx.Response:
        path = f"/releases/{release}/invocations" if release else "/invocations"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(path, json={"dataframe_records": [{"x": x}]}, headers=named)

    def figures(self) -> dict[str, float]:
        """Prometheus samples, by name and labels: `name kind release`."""
        from prometheus_client.parser import text_string_to_metric_families

        found: dict[str, float] = {}
        for family in text_string_to_metric_families(self.http.get("/metrics").text):
            for sample in family.samples:
                labels = [
                    sample.labels[label]
                    for label in sorted(sample.labels)
                    if label not in ("system", "replica")
                ]
                found[" ".join([sample.name, *labels])] = sample.value
        return found


class Running:
    """A gateway that runs, with its journal and a client."""

    def __init__(self, marked: Marked, gateway: Gateway) -> None:
        self.marked = marked
        self.gateway = gateway
        self.client = Client(gateway.url)

    def report(self) -> Replica | None:
        found = self.marked.journal.replicas(SYSTEM, 5.0)
        return next((one for one in found if one.url == self.gateway.url), None)

    def serves(self, epoch: int, within: float = WITHIN) -> None:
        """Wait until the journal has that the replica serves the epoch."""
        until(
            lambda: (report := self.report()) and report.epoch == epoch,
            f"serves epoch {epoch}: {self.report()}",
            within,
        )

    def holds(self, *releases: str) -> None:
        until(
            lambda: (report := self.report()) and set(releases) == set(report.loaded),
            f"holds {releases}",
        )


@contextmanager
def running(
    marked: Marked,
    *,
    handler: str = HANDLER,
    log: str = "",
    world: World | None = None,
    drain: int = 1,
    joint: bool = False,
    ttl: float = 600.0,
) -> Iterator[Running]:
    gateway = Gateway(
        world or marked.world,
        handler=handler,
        log=log,
        host="127.0.0.1",
        port=0,
        name="here",
        drain=drain,
        joint=joint,
        ttl=ttl,
    )
    thread = threading.Thread(target=gateway.run)
    thread.start()
    found = Running(marked, gateway)
    try:
        yield found
    finally:
        found.client.http.close()
        gateway.stop()
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[Marked]:
    with closing(Marked(tmp_path)) as found:
        yield found


@pytest.fixture
def gateway(marked: Marked) -> Iterator[Running]:
    with running(marked) as found:
        yield found


def only(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    (prediction,) = response.json()["predictions"]
    return prediction


def says(response: httpx.Response) -> str:
    (mark,) = marks(only(response))
    return mark
