"""Over HTTP: requests that waited for the same release are asked of it together."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ebbtide.entrypoints.gateway.workers import SIZE, Workers
from tests.integration.gateway_fixtures import Client, Running, running, until
from tests.integration.serving_world import MLFLOW_WARNS, Marked

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNS)

HOLD = 99
CODE = """
import time
from pathlib import Path


def load(parts):
    go_on = Path(GO_ON)

    def answer(rows):
        if HOLD in rows["x"].to_list():
            while not go_on.exists():
                time.sleep(0.005)
        if (rows["x"] < 0).any():
            raise ValueError("no such x")
        return [dict(x=x, asked=len(rows)) for x in rows["x"].to_list()]

    return answer
"""


@contextmanager
def holding(folder: Path, *, joint: bool) -> Iterator[tuple[Running, Path]]:
    """A gateway, and the file until whose appearance a request that says so holds a thread."""
    go_on = folder / "go-on"
    code = CODE.replace("GO_ON", repr(str(go_on))).replace("HOLD", str(HOLD))
    with closing(Marked(folder)) as marked, running(marked, joint=joint) as gateway:
        try:
            gateway.serves(marked.switch(marked.release("only", code)))
            yield gateway, go_on
        finally:
            go_on.touch()


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many requests the line was given."""
    counted, submit = [], Workers.submit

    def counting(self: Workers, *work: Any, **how: Any) -> Future[Any]:
        given = submit(self, *work, **how)
        counted.append(given)
        return given

    monkeypatch.setattr(Workers, "submit", counting)
    return lambda: len(counted)


def ask_all(
    gateway: Running, go_on: Path, submitted: Callable[[], int], values: list[int]
) -> list[httpx.Response]:
    """Ask while no thread is free; nobody is answered before all of them wait."""
    url = gateway.gateway.url

    def ask(x: int, **headers: str) -> httpx.Response:
        client = Client(url)
        with client.http:
            return client.ask(x, **headers)

    with ThreadPoolExecutor(SIZE + len(values)) as clients:
        held = [clients.submit(ask, HOLD, X_Ebbtide_No_Cache="1") for _ in range(SIZE)]
        until(lambda: submitted() == SIZE, "every thread to be at work")
        asked = [clients.submit(ask, x) for x in values]
        until(lambda: submitted() == SIZE + len(values), "the others to wait")
        go_on.touch()
        assert all(each.result(30).status_code == 200 for each in held)
        return [each.result(30) for each in asked]


def test_requests_that_wait_are_asked_together_and_answered_each_by_its_own(
    tmp_path: Path, submitted: Callable[[], int]
) -> None:
    values = [*range(1, 13), -1]
    with holding(tmp_path, joint=True) as (gateway, go_on):
        found = ask_all(gateway, go_on, submitted, values)
        *sound, bad = found
        given = [each.json()["predictions"] for each in sound]
        assert [(len(each), each[0]["x"]) for each in given] == [(1, x) for x in range(1, 13)]
        assert bad.status_code == 400 and "ValueError" in bad.json()["message"]
        assert any(each[0]["asked"] > 1 for each in given)
        again = gateway.client.ask(5)
        assert (again.json()["predictions"][0]["x"], again.headers["x-ebbtide-cache"]) == (5, "hit")
        figures = gateway.client.figures()
    release = sound[0].headers["x-ebbtide-release"]
    assert figures[f"ebbtide_errors_total prediction {release}"] == 1


def test_nothing_is_asked_together_unless_the_system_says_so(
    tmp_path: Path, submitted: Callable[[], int]
) -> None:
    with holding(tmp_path, joint=False) as (gateway, go_on):
        found = ask_all(gateway, go_on, submitted, list(range(1, 9)))
        assert [each.json()["predictions"] for each in found] == [
            [{"x": x, "asked": 1}] for x in range(1, 9)
        ]
