"""The gateway over real HTTP: one release for each answer, whatever happens beside it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import diskcache
import httpx
import pytest

from ebbtide.core.release import Release
from tests.integration.gateway_fixtures import (  # noqa: F401 - fixtures
    Client,
    Running,
    gateway,
    marked,
    only,
    running,
    says,
    until,
)
from tests.integration.serving_world import HANDLER_CODE, LOG, MLFLOW_WARNS, SYSTEM, Marked, marks

# ruff: noqa: F811 - pytest's way to ask for a fixture

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNS)

FLIPS = 200


class Witness(threading.Thread):
    """A client that keeps asking and notes each answer that is not of one release."""

    def __init__(self, url: str, named: dict[str, str]) -> None:
        super().__init__()
        self._client = Client(url)
        self._named = named
        self.done = threading.Event()
        self.asked: dict[str, int] = dict.fromkeys(named, 0)
        self.hits = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        x = 0
        while not self.done.is_set():
            x = (x + 1) % 4
            response = self._client.ask(x)
            release = response.headers.get("x-ebbtide-release", "")
            if response.status_code != 200 or marks(only(response)) != {self._named.get(release)}:
                self.wrong.append(f"{response.status_code} {release[:12]} {response.text}")
            else:
                self.asked[release] += 1
                self.hits += response.headers["x-ebbtide-cache"] == "hit"
        self._client.http.close()


def test_no_answer_is_mixed_or_lost_while_the_route_flips(marked: Marked) -> None:
    releases = [marked.release("v1"), marked.release("v2")]
    named = {release.id: f"v{n + 1}" for n, release in enumerate(releases)}
    marked.switch(releases[0])
    with running(marked) as gateway:
        gateway.serves(1)
        witnesses = [Witness(gateway.gateway.url, named) for _ in range(3)]
        for witness in witnesses:
            witness.start()
        with marked.saga() as lease:
            for n in range(FLIPS):
                epoch = marked.switch(releases[(n + 1) % 2], lease, proved=False)
                gateway.serves(epoch)
        for witness in witnesses:
            witness.done.set()
            witness.join()
    assert [witness.wrong for witness in witnesses] == [[], [], []]
    assert all(sum(one.asked[release] for one in witnesses) > 50 for release in named)
    assert sum(witness.hits for witness in witnesses) > 10


def test_an_epoch_is_acknowledged_only_when_it_is_served(marked: Marked, gateway: Running) -> None:
    first = marked.release("v1")
    gateway.serves(marked.switch(first))
    slow = marked.release("v2", "import time\ntime.sleep(0.5)\n" + HANDLER_CODE)
    epoch = marked.switch(slow)
    seen: set[tuple[str, str]] = set()
    while (report := gateway.report()) is None or report.epoch != epoch:
        response = gateway.client.ask(len(seen))
        seen.add((says(response), response.headers["x-ebbtide-epoch"]))
    assert says(gateway.client.ask()) == "v2"
    assert ("v1", "1") in seen
    assert seen <= {("v1", "1"), ("v2", "2")}


def test_a_cached_answer_never_outlives_its_epoch(marked: Marked, gateway: Running) -> None:
    good, bad = marked.release("good"), marked.release("bad")
    gateway.serves(marked.switch(good))
    answers = [gateway.client.ask(7) for _ in range(2)]
    assert [answer.headers["x-ebbtide-cache"] for answer in answers] == ["miss", "hit"]
    gateway.serves(marked.switch(bad))
    assert [says(gateway.client.ask(7)) for _ in range(2)] == ["bad", "bad"]
    _poison(marked.folder / "cache")
    assert says(gateway.client.ask(7)) == "poisoned"
    gateway.serves(marked.switch(good))
    again = gateway.client.ask(7)
    assert says(again) == "good"
    assert again.headers["x-ebbtide-cache"] in ("miss", "ahead"), "it was made anew"


def _poison(cache: Path) -> None:
    """Make all that is cached wrong."""
    wrong = dict.fromkeys(("model", "config", "prompt", "infra"), "poisoned")
    with diskcache.Cache(str(cache)) as store:
        for key in list(store.iterkeys()):
            store[key] = json.dumps({"predictions": [wrong]}).encode()


def test_a_request_may_go_past_the_cache(marked: Marked, gateway: Running) -> None:
    gateway.serves(marked.switch(marked.release("v1")))
    found = [gateway.client.ask(7, X_Ebbtide_No_Cache="1") for _ in range(2)]
    assert [answer.headers["x-ebbtide-cache"] for answer in found] == ["off", "off"]
    assert gateway.client.ask(7).headers["x-ebbtide-cache"] == "miss"


def test_every_answer_names_its_release_and_its_layers(marked: Marked, gateway: Running) -> None:
    release = marked.release("v1")
    gateway.serves(marked.switch(release))
    for answer in (gateway.client.ask(), gateway.client.http.post("/invocations", content=b"{")):
        assert answer.headers["x-ebbtide-release"] == release.id
        assert answer.headers["x-ebbtide-epoch"] == "1"
        assert answer.headers["x-ebbtide-replica"] == "here"
        assert release.pins("config")[0].digest[:10] in answer.headers["x-ebbtide-config"]


def test_a_release_that_hangs_does_not_outlive_its_tenure(marked: Marked, gateway: Running) -> None:
    good = marked.release("good")
    waits = "import threading\ndef load(parts):\n    return lambda rows: threading.Event().wait()\n"
    bad = marked.release("bad", waits)
    gateway.serves(marked.switch(good))
    gateway.serves(marked.switch(bad))
    stuck = [Client(gateway.gateway.url) for _ in range(8)]
    threads = [
        threading.Thread(target=_never_mind, args=(client.ask,), daemon=True) for client in stuck
    ]
    for thread in threads:
        thread.start()
    until(lambda: len(threads) == sum(thread.is_alive() for thread in threads), "all stuck")
    gateway.serves(marked.switch(good))
    assert says(gateway.client.ask()) == "good"
    for client in stuck:
        client.http.close()


def _never_mind(ask: Callable[[], object]) -> None:
    try:
        ask()
    except (httpx.HTTPError, RuntimeError):
        return


@pytest.mark.parametrize(
    ("expression", "status"),
    [
        ("[float('nan')] * len(rows)", 500),
        ("[1.0]", 500),
        ("1/0", 400),
        ("__import__('sys').exit(1)", 400),
        ("[1.0] * len(rows)", 200),
    ],
)
def test_unsound_answers_are_errors_and_are_counted(
    marked: Marked, gateway: Running, expression: str, status: int
) -> None:
    release = marked.release("v1", f"def load(parts):\n    return lambda rows: {expression}\n")
    gateway.serves(marked.switch(release))
    rows = {"dataframe_records": [{"x": 1}, {"x": 2}]}
    for _ in range(2):
        response = gateway.client.http.post("/invocations", json=rows)
        assert response.status_code == status, response.text
        assert response.headers["x-ebbtide-release"] == release.id
    figures = gateway.client.figures()
    assert figures[f"ebbtide_requests_total {release.id}"] == 2
    kind = "answer" if status == 500 else "prediction"
    errors = figures.get(f"ebbtide_errors_total {kind} {release.id}", 0)
    assert errors == (0 if status == 200 else 2)


def test_a_process_ends_in_good_order_when_it_is_asked_to(marked: Marked) -> None:
    from deltalake import DeltaTable

    slow = HANDLER_CODE.replace("marks = ", "__import__('time').sleep(1.0); marks = ")
    release: Release = marked.release("v1", slow)
    marked.switch(release)
    command = [sys.executable, "-m", "tests.integration.serving_world", str(marked.folder)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env={**os.environ})
    try:
        (replica,) = until(
            lambda: (
                [one for one in marked.journal.replicas(SYSTEM, 5.0) if one.epoch == 1]
                or process.poll() is not None
            ),
            "the process serves",
            60,
        )
        client, busy = Client(replica.url), Client(replica.url)
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(client.ask()))
        asking.start()
        until(lambda: busy.http.get("/ping").status_code == 200, "it is up while it answers")
        time.sleep(0.2)  # the slow request is at work by now; nothing outside shows it
        process.send_signal(signal.SIGTERM)
        asking.join(60)
        assert says(answers[0]) == "v1"
        assert process.wait(20) == 0
        client.http.close()
        busy.http.close()
    finally:
        process.kill()
        process.wait()
    assert DeltaTable(str(marked.folder / LOG)).to_pandas()["release"].to_list() == [release.id]
