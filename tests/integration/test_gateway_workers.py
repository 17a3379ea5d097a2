"""Several processes behind one port: each a replica, none of them missed when it dies."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ebbtide.core.errors import Unreachable
from ebbtide.core.journal import Replica
from ebbtide.entrypoints.gateway.sockets import bound, listening, reserved
from tests.integration.gateway_fixtures import until
from tests.ride_pricing import Running

ROWS = {"dataframe_records": [{"zone": "nowhere", "hour": "2026-01-01T00:00:00Z"}]}


@dataclass
class Workers:
    """A running `ebbtide serve --workers`."""

    system: Running
    process: subprocess.Popen[str]
    port: int

    def replicas(self) -> list[Replica]:
        return self.system.world.journal.replicas(self.system.file.system, 5.0)

    def serving(self, n: int) -> list[Replica]:
        """Wait until so many workers serve."""

        def there() -> list[Replica]:
            found = self.replicas()
            return found if len([one for one in found if one.epoch]) == n else []

        found: list[Replica] = until(there, f"{n} workers serve", 60)
        return found

    def ask_anew(self) -> str:
        """One request on a connection of its own; the name of who answered."""
        with httpx.Client(trust_env=False, timeout=30) as client:
            answer = client.get(f"http://127.0.0.1:{self.port}/ping")
        assert answer.status_code == 200, answer.text
        return answer.headers["x-ebbtide-release"]


@contextmanager
def workers(system: Running, n: int) -> Iterator[Workers]:
    with closing(bound("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "ebbtide", "serve", system.file.system, "--workers", str(n)]
    command += ["--systems", str(system.file._folder), "--port", str(port), "--name", "many"]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], text=True)
    try:
        yield Workers(system, process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_each_worker_is_a_replica_and_all_answer_on_one_port(pricing: Running) -> None:
    pricing.stop_gateway()
    with workers(pricing, 2) as many:
        found = many.serving(2)
        assert [replica.name for replica in found] == ["many-1", "many-2"]
        assert len({replica.url for replica in found}) == 2
        assert all(not replica.url.endswith(f":{many.port}") for replica in found)
        assert {many.ask_anew() for _ in range(20)} == {pricing.release("v3").id}

        pricing.order()  # every worker must follow for this saga to be completed
        assert {replica.release for replica in many.replicas()} == {pricing.release("v2").id}
        assert {many.ask_anew() for _ in range(20)} == {pricing.release("v2").id}

        dead = _children(many.process.pid)[0]
        os.kill(dead, signal.SIGKILL)
        until(lambda: dead not in _children(many.process.pid), "it is seen to be dead")
        until(lambda: len(_children(many.process.pid)) == 2, "it is started anew")
        many.serving(2)
        assert {many.ask_anew() for _ in range(20)} == {pricing.release("v2").id}
        children = _children(many.process.pid)
    assert many.replicas() == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_workers_end_with_the_process_that_started_them(pricing: Running) -> None:
    pricing.stop_gateway()
    with closing(bound("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "ebbtide", "serve", pricing.file.system, "--workers", "2"]
    command += ["--systems", str(pricing.file._folder), "--port", str(port)]
    command += ["--url", "http://localhost:{port}"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        many = Workers(pricing, process, port)  # type: ignore[arg-type]  # its output goes unread
        urls = {replica.url.rpartition(":") for replica in many.serving(2)}
        assert {host for host, _, _ in urls} == {"http://localhost"} and len(urls) == 2
        children = _children(process.pid)
        process.kill()
        process.wait(60)
    until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in children), "all ended")
    assert many.replicas() == []


def test_a_port_that_another_service_shares_is_not_joined() -> None:
    with closing(listening("127.0.0.1", 0, shared=True)) as theirs:
        port = theirs.getsockname()[1]
        with pytest.raises(Unreachable, match="cannot be bound"):
            reserved("127.0.0.1", port)


def test_a_held_port_takes_no_connection_from_its_workers() -> None:
    with closing(reserved("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with closing(listening("127.0.0.1", port, shared=True)) as worker:
            for _ in range(20):
                with socket.create_connection(("127.0.0.1", port), timeout=5):
                    accepted, _ = worker.accept()
                    accepted.close()


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]
