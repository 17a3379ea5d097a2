"""A replica looks at a release's pins; whoever asks believes only a whole answer."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from ebbtide.adapters.replicas.serving import HttpServing
from ebbtide.core.errors import EbbtideError, Unknown, Unreachable
from ebbtide.core.journal import Replica
from ebbtide.core.release import Release
from tests.integration.gateway_fixtures import Running, running, until
from tests.integration.serving_world import MLFLOW_WARNS, SYSTEM, Marked

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNS)


@pytest.fixture
def marked(tmp_path: Path) -> Iterator[Marked]:
    with closing(Marked(tmp_path)) as found:
        yield found


@pytest.fixture
def serving(marked: Marked) -> Iterator[HttpServing]:
    with closing(HttpServing(marked.journal, SYSTEM, 5.0)) as found:
        yield found


@pytest.fixture
def gateway(marked: Marked, serving: HttpServing) -> Iterator[Running]:
    with running(marked) as found:
        until(serving.replicas, "has reported")
        yield found


def one(serving: HttpServing) -> Replica:
    (replica,) = serving.replicas()
    return replica


def test_a_release_that_it_never_loaded_is_looked_at_pin_by_pin(
    marked: Marked, gateway: Running, serving: HttpServing
) -> None:
    whole, other = marked.release("whole"), marked.release("other")
    assert serving.problems(one(serving), whole) == []
    rmtree(marked.config.root / other.pins("config")[0].digest)
    (problem,) = serving.problems(one(serving), other)
    assert problem.startswith("config settings: ") and "gone" in problem
    assert serving.problems(one(serving), whole) == []


def test_it_looks_for_nobody_who_does_not_know_its_token(
    marked: Marked, gateway: Running, serving: HttpServing
) -> None:
    release, replica = marked.release("v1"), one(serving)
    path = f"/releases/{release.id}/verify"
    for said in ({}, {"x-ebbtide-token": ""}, {"x-ebbtide-token": "0" * 32}):
        answer = gateway.client.http.post(path, headers=said)
        assert answer.status_code == 403 and "pins" not in answer.json()
    with pytest.raises(EbbtideError, match="403"):
        serving.problems(replace(replica, token=""), release)
    assert serving.problems(replica, release) == []
    assert replica.token not in repr(replica)


def test_each_process_has_a_token_of_its_own(marked: Marked, serving: HttpServing) -> None:
    tokens = set()
    for _ in range(2):
        with running(marked):
            tokens.add(until(serving.replicas, "has reported")[0].token)
    assert len(tokens) == 2 and all(len(token) == 32 for token in tokens)


def test_a_release_that_the_journal_does_not_have_is_unknown(
    gateway: Running, serving: HttpServing
) -> None:
    with pytest.raises(Unknown, match="here"):
        serving.problems(one(serving), Release(SYSTEM, {}))


def test_a_layer_without_an_adapter_there_is_a_problem(
    marked: Marked, gateway: Running, serving: HttpServing
) -> None:
    flag = marked.prompts.add("flag", "on")
    strange = marked.record(marked.release("v1").with_pins("flags", flag))
    assert serving.problems(one(serving), strange) == ["flags flag: its layer has no adapter here"]


def test_a_store_that_is_away_is_no_whole_answer(marked: Marked, serving: HttpServing) -> None:
    class Gone:
        def problems(self, _pin: object) -> list[str]:
            raise Unreachable("The registry is away.")

    class Broken:
        def problems(self, _pin: object) -> list[str]:
            raise RuntimeError("no such driver")

    release = marked.release("v1")
    for adapter, error in ((Gone(), Unreachable), (Broken(), EbbtideError)):
        layers: Any = {**marked.world.layers, "model": adapter}
        with running(marked, world=replace(marked.world, layers=layers)):
            replica = until(serving.replicas, "has reported")[0]
            with pytest.raises(error, match=r"away|driver"):
                serving.problems(replica, release)


def test_looking_keeps_no_request_waiting(marked: Marked, serving: HttpServing) -> None:
    looking, go_on = threading.Event(), threading.Event()

    class Slow:
        def problems(self, _pin: object) -> list[str]:
            looking.set()
            assert go_on.wait(20)
            return []

    layers: Any = {**marked.world.layers, "flags": Slow()}
    release = marked.release("v1")
    slow = marked.record(release.with_pins("flags", marked.prompts.add("flag", "on")))
    with running(marked, world=replace(marked.world, layers=layers)) as gateway:
        gateway.serves(marked.switch(release))
        found: list[list[str]] = []
        thread = threading.Thread(
            target=lambda: found.append(serving.problems(one(serving), slow)), daemon=True
        )
        thread.start()
        assert looking.wait(20)
        assert gateway.client.ask().status_code == 200
        go_on.set()
        thread.join(60)
        assert found == [[]]


@contextmanager
def stranger(answer: Callable[[], tuple[int, bytes]]) -> Iterator[Replica]:
    """Something else that listens where a replica is thought to be."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = answer()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        yield Replica("stranger", url, "", 0, (), {}, 0.0)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_an_answer_that_does_not_speak_of_each_pin_is_none(
    marked: Marked, serving: HttpServing
) -> None:
    release = marked.release("v1")
    pins = [
        {"layer": layer, "pin": pin.name, "digest": pin.digest, "problems": []}
        for layer, there in release.layers.items()
        for pin in there
    ]
    whole = {"release": release.id, "pins": pins}
    bad: list[tuple[int, Any]] = [
        (200, {**whole, "pins": pins[1:]}),
        (200, {**whole, "pins": []}),
        (200, {**whole, "release": "f" * 64}),
        (200, {**whole, "pins": [{**pins[0], "digest": "f" * 64}, *pins[1:]]}),
        (200, {**whole, "pins": [{**pins[0], "problems": None}, *pins[1:]]}),
        (200, {**whole, "pins": [{**pins[0], "problems": [""]}, *pins[1:]]}),
        (200, {"release": release.id}),
        (200, []),
        (204, whole),
        (500, whole),
        (503, whole),
    ]
    answers: list[tuple[int, bytes]] = [(200, json.dumps(whole).encode()), (200, b"no JSON")]
    answers += [(status, json.dumps(body).encode()) for status, body in bad]
    remaining = iter(answers)
    with stranger(lambda: next(remaining)) as replica:
        assert serving.problems(replica, release) == []
        for _ in answers[1:]:
            with pytest.raises(EbbtideError, match=r"stranger|no replica"):
                serving.problems(replica, release)


def test_nobody_there_is_unreachable(marked: Marked, serving: HttpServing) -> None:
    release = marked.release("v1")
    for url in ("http://127.0.0.1:9", "https://127.0.0.1:9", "ftp://127.0.0.1", "http://"):
        with pytest.raises(Unreachable, match="gone"):
            serving.problems(Replica("gone", url, "", 0, (), {}, 0.0), release)


def test_kept_connections_that_the_other_side_closed_are_made_anew(
    marked: Marked, serving: HttpServing
) -> None:
    release = marked.release("v1")
    urls = []
    for _ in range(2):
        with running(marked) as gateway:
            gateway.serves(marked.switch(release))
            replica = one(serving)
            urls.append(replica.url)
            first = Replica("here", replica.url, release.id, 1, (), {}, 0.0, replica.token)
            assert len(serving.ask(first, [{"x": 1}]).predictions) == 1
            assert serving.problems(first, release) == []


def test_a_replica_that_has_ended_is_forgotten_at_once(
    marked: Marked, serving: HttpServing
) -> None:
    with running(marked):
        until(serving.replicas, "has reported")
    assert serving.replicas() == []
    assert marked.journal.replicas(SYSTEM, 3600.0) == []


def test_a_replica_forgets_no_other_of_its_name(marked: Marked) -> None:
    new = Replica("here", "http://new", "", 0, (), {}, 0.0)
    marked.journal.report(SYSTEM, new)
    marked.journal.forget(SYSTEM, "here", "http://old")
    marked.journal.forget("another", "here", "http://new")
    assert [replica.url for replica in marked.journal.replicas(SYSTEM, 5.0)] == ["http://new"]
