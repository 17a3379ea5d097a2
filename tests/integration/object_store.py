"""A real S3 endpoint in a process of its own, read and damaged by plain HTTP; a table in it."""

import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta.leased import LeasedTables
from ebbtide.adapters.system.file import DataThing
from ebbtide.core.release import Pin
from ebbtide.writing import append
from tests.leased_tables import KEPT, actions, infos, rows
from tests.measuring import others_unmeasured

SAGA = "ab12"
SYSTEM = "shop"
RIDES = "tables/rides"
LOG = f"{RIDES}/_delta_log"

Stored = Callable[[], Path]
"""Asked, it copies the table out of the bucket as it lies there then."""

_SERVER = """
import logging, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
backends = DomainDispatcherApplication(create_backend_app)
to_lose, to_answer = [], [float("inf")]

def answer(environ, start_response):
    commits = environ["REQUEST_METHOD"] == "PUT" and "/_delta_log/" in environ["PATH_INFO"]
    to_answer[0] -= 1
    if to_answer[0] >= 0 and not (commits and to_lose):
        return backends(environ, start_response)
    if to_answer[0] >= 0:
        to_lose.pop()
        list(backends(environ, lambda *_: None))
    start_response("503 Service Unavailable", [])
    return []

def serve(port):
    server = make_server("127.0.0.1", port, answer, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server

server = serve(0)
port, there = server.port, True
print(port, flush=True)
for order in sys.stdin:
    word, _, number = order.strip().partition(" ")
    if word == "answer":
        to_answer[0] = float(number)
    elif order == "leave\\n" and there:
        server.shutdown()
        server.server_close()
        there = False
    elif order == "come back\\n" and not there:
        server, there = serve(port), True
    elif order == "lose\\n":
        to_lose.append(True)
    print("done", flush=True)
"""


_HEADERS = {
    "Content-Type": "application/octet-stream",
    "Authorization": "AWS4-HMAC-SHA256 Credential=tester/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0",
}
"""The store shows objects only to who signs, and does not look at the signature."""


class Endpoint:
    """The process. What the store has outlives that its endpoint is away."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server
        self.url = f"http://127.0.0.1:{int(self._said())}"

    def order(self, what: str) -> None:
        assert self._server.stdin
        print(what, file=self._server.stdin, flush=True)
        assert self._said() == "done\n", what

    def _said(self) -> str:
        assert self._server.stdout
        return self._server.stdout.readline()


@dataclass(frozen=True)
class Bucket:
    """A bucket of one test's own. Keys are as the store has them, with nothing unescaped."""

    name: str
    endpoint: Endpoint

    def uri(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def keys(self, below: str = "") -> list[str]:
        listed = ElementTree.fromstring(self._ask("GET", f"?list-type=2&prefix={quote(below)}"))
        return [each.text or "" for each in listed.iterfind("{*}Contents/{*}Key")]

    def put(self, key: str, content: bytes) -> None:
        self._ask("PUT", f"/{quote(key)}", content)

    def delete(self, key: str) -> None:
        self._ask("DELETE", f"/{quote(key)}")

    def content(self) -> dict[str, bytes]:
        return {key: self._ask("GET", f"/{quote(key)}") for key in self.keys()}

    def copy(self, to: Path) -> Path:
        """All that lies in the bucket now, as files in a new folder."""
        to.mkdir(parents=True)
        for key, content in self.content().items():
            (to / key).parent.mkdir(parents=True, exist_ok=True)
            (to / key).write_bytes(content)
        return to

    def leave(self) -> None:
        """From now on the endpoint refuses all connections."""
        self.endpoint.order("leave")

    def come_back(self) -> None:
        self.endpoint.order("come back")

    @contextmanager
    def away(self) -> Iterator[None]:
        self.leave()
        try:
            yield
        finally:
            self.come_back()

    @contextmanager
    def answering(self, requests: int) -> Iterator[None]:
        """Meanwhile it answers so many requests, and says to all others that it cannot."""
        self.endpoint.order(f"answer {requests}")
        try:
            yield
        finally:
            self.endpoint.order("answer inf")

    def lose_an_answer(self) -> None:
        """The next commit to a table is made, and whoever asked for it hears of a fault."""
        self.endpoint.order("lose")

    def make(self) -> None:
        self._ask("PUT", "", b"")

    def _ask(self, method: str, at: str, content: bytes | None = None) -> bytes:
        url = f"{self.endpoint.url}/{self.name}{at}"
        asked = urllib.request.Request(url, content, _HEADERS, method=method)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            found: bytes = answer.read()
            return found


@pytest.fixture(scope="session")
def endpoint() -> Iterator[Endpoint]:
    command, pipe = [sys.executable, "-c", _SERVER], subprocess.PIPE
    with others_unmeasured():
        server = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    try:
        yield Endpoint(server)
    finally:
        server.kill()
        server.communicate()


@pytest.fixture
def bucket(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Empty, with the address and the credentials in the environment, as a user has them."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint.url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "tester",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    made = Bucket(f"lake-{uuid.uuid4().hex}", endpoint)
    made.make()
    yield made
    made.come_back()


@pytest.fixture
def uri(bucket: Bucket) -> str:
    """Version 0: one row; 1: one more; 2: the properties; 3: two rows more, of another writer."""
    made = bucket.uri(RIDES)
    write_deltalake(made, rows(1.0), partition_by=["zone"])
    append(made, rows(2.0), by="ada")
    DeltaTable(made).alter.set_table_properties(KEPT, raise_if_not_exists=False)
    write_deltalake(made, rows(66.0, 67.0), mode="append")
    return made


@pytest.fixture
def tables(uri: str, tmp_path: Path) -> LeasedTables:
    return of({"rides": DataThing(path=uri, role="training")}, tmp_path)


@pytest.fixture
def stored(bucket: Bucket, tmp_path: Path) -> Callable[[], Path]:
    """The table as the bucket has it at the moment of asking."""
    copies = iter(range(99))
    return lambda: bucket.copy(tmp_path / f"copy-{next(copies)}") / RIDES


def of(things: dict[str, DataThing], folder: Path) -> LeasedTables:
    return LeasedTables(things, lambda path: folder / path, folder / "left", folder / "leases")


def live(tables: LeasedTables) -> Pin:
    found = tables.live("rides")
    assert found
    return found


def properties(place: Path) -> dict[str, str]:
    """As the log has them; those of fences left out where they are down."""
    found: dict[str, str] = {}
    for action in actions(place):
        found = action["metaData"]["configuration"] if "metaData" in action else found
    return {name: value for name, value in found.items() if value}


def operations(place: Path) -> list[str]:
    return [info["operation"] for info in infos(place)]


def before(monkeypatch: pytest.MonkeyPatch, what: str, act: Callable[[], Any]) -> None:
    """Let something happen, once, just before a method of a table does its work."""
    method, left = getattr(DeltaTable, what), [act]

    def late(self: DeltaTable, *args: Any, **options: Any) -> Any:
        if left:
            left.pop()()
        return method(self, *args, **options)

    monkeypatch.setattr(DeltaTable, what, late)
