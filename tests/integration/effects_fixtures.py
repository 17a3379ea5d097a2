"""A receiver of effects that counts, and a system whose effects go there."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ebbtide import effects
from ebbtide.adapters.receivers.http import HttpReceivers
from ebbtide.adapters.system.things import EffectTarget
from ebbtide.core.dispatch import all_due, next_one
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Saga
from ebbtide.entrypoints.cli.main import app
from ebbtide.testing import FakeWorld
from flows.order import carry_out
from tests.conftest import Fakes
from tests.integration.journal_fixtures import same_imports

SOON = 60.0
"""Seconds that anything may take on a loaded machine."""


@dataclass
class Inbox:
    """What really arrived, as a receiver sees it, and how it answers."""

    url: str = ""
    arrived: list[tuple[str, float]] = field(default_factory=list)
    """The key of each request and when it came."""
    bodies: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    answers: dict[str, list[int]] = field(default_factory=dict)
    """Statuses to be given by key, one after the other; then 200."""
    says: dict[str, Any] = field(default_factory=dict)
    """The JSON to be answered, by key."""
    delays: dict[str, str] = field(default_factory=dict)
    """A header to be sent along with a refusal, by key."""
    hang: threading.Event = field(default_factory=threading.Event)
    hanging: set[str] = field(default_factory=set)
    """Keys that are answered only once `hang` is set."""

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.arrived]


def _handler(inbox: Inbox) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            key = self.headers["Idempotency-Key"]
            inbox.bodies[key] = json.loads(body)
            inbox.headers[key] = dict(self.headers)
            inbox.arrived.append((key, time()))
            if key in inbox.hanging:
                inbox.hang.wait(SOON)
            status = inbox.answers.get(key, [])
            said = json.dumps(inbox.says.get(key, {})).encode()
            self.send_response(status.pop(0) if status else 200)
            if key in inbox.delays:
                self.send_header("Retry-After", inbox.delays[key])
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


@contextmanager
def receiving() -> Iterator[Inbox]:
    """A receiver that runs meanwhile."""
    made = Inbox()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made))
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_port}/in"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        made.hang.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with receiving() as made:
        yield made


@dataclass(frozen=True)
class Shop:
    """A fake system whose bad release serves; its effects go to a real receiver."""

    world: FakeWorld
    good: Release
    bad: Release
    inbox: Inbox
    folder: Path

    def queue(self, key: str, **more: Any) -> effects.Effect:
        """By the live release; irreversible unless an undo is given."""
        undo = more.get("undo")
        wish = {"klass": "reversible" if undo else "irreversible", "payload": {"to": key}, **more}
        return effects.queue(self.world, "mail", key=key, **wish)

    def undoable(self, key: str, **more: Any) -> effects.Effect:
        return self.queue(key, undo=effects.Undo("mail", {"sorry": "{key}"}), **more)

    def dispatch(self) -> int:
        """Here and now, what is due."""
        return all_due(self.world, lambda _attempt: None)

    def dispatch_until(self, *keys: str) -> None:
        """Until the receiver was asked with all of these."""
        until(lambda: (next_one(self.world), {*keys} <= {*self.arrived})[1])

    @property
    def arrived(self) -> list[str]:
        return [key.removeprefix("fake/") for key in self.inbox.keys]

    def roll_back(self, **wishes: Any) -> Saga:
        return carry_out(self.world, Fakes(self.world, self.good, self.bad).order(**wishes))

    def promote(self, release: Release) -> Saga:
        return self.roll_back(level=Level.PROMOTION, to=release.id)

    def states(self) -> dict[str, str]:
        """As another reader of the database sees them."""
        return dict(self.sql("SELECT key, state FROM effects ORDER BY entry, place"))

    def sql(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.folder / "journal.db")) as database, database:
            return database.execute(statement).fetchall()

    def expire_claims(self) -> None:
        """As time does that runs out."""
        self.sql("UPDATE effects SET claim_until = 1 WHERE claim_until IS NOT NULL")

    def command(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ebbtide", "effects", "fake", *words],
            env={**same_imports(), "EBBTIDE_SYSTEMS": str(self.folder / "systems"), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def invoke(self, *words: str, command: str = "effects") -> Result:
        """The same, in this process."""
        folder = str(self.folder / "systems")
        return CliRunner().invoke(app, [command, "fake", *words, "--systems", folder])

    @contextmanager
    def watching(self) -> Iterator[subprocess.Popen[str]]:
        """A dispatcher of its own process, which looks all the time."""
        process = self.command("--dispatch", "--watch", "--every", "0.005")
        assert process.stdout
        assert process.stdout.readline(), process.stderr and process.stderr.read()
        try:
            yield process
        finally:
            process.terminate()
            _, said = process.communicate(timeout=SOON)
            assert process.returncode == 0, said


def target(inbox: Inbox, **more: Any) -> EffectTarget:
    return EffectTarget(url=inbox.url, backoff=0.01, **more)


@pytest.fixture
def shop(fakes: Fakes, inbox: Inbox, tmp_path: Path) -> Shop:
    told = {"url": inbox.url, "backoff": 0.01}
    file = {
        "system": "fake",
        "journal": f"sqlite:///{tmp_path / 'journal.db'}",
        "layers": {},
        "effects": {"targets": {"mail": told}},
    }
    folder = tmp_path / "systems"
    folder.mkdir()
    (folder / "fake.yaml").write_text(json.dumps(file))
    world = replace(fakes.world, receivers=HttpReceivers({"mail": target(inbox)}))
    return Shop(world, fakes.good, fakes.bad, inbox, tmp_path)


def until(look: Any) -> None:
    deadline = monotonic() + SOON
    while not look():
        assert monotonic() < deadline, "it never came"
        sleep(0.005)
