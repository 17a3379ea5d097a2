"""A real Prefect server with everything deployed and a worker, and its HTTP API."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from tests.measuring import unmeasured

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
_WITHIN = 120.0
_ENDS = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")


@dataclass
class Prefect:
    """Talks to the server as its UI does."""

    url: str
    folder: Path
    environment: dict[str, str]
    server: "subprocess.Popen[bytes]"

    def start(self, deployment: str, **parameters: Any) -> str:
        """Start a deployment as the UI's button does; the id of its flow run."""
        found = self.get(f"/deployments/name/{deployment}/{deployment}")
        # With the key, asking again where no answer came starts nothing twice.
        asked = {"state": {"type": "SCHEDULED"}, "idempotency_key": str(uuid4())}
        run = self.post(
            f"/deployments/{found['id']}/create_flow_run", asked | {"parameters": parameters}
        )
        return str(run["id"])

    def end(self, flow_run: str) -> dict[str, Any]:
        """The flow run, once it has come to an end."""

        def look() -> dict[str, Any] | None:
            run = self.get(f"/flow_runs/{flow_run}")
            return run if run["state_type"] in _ENDS else None

        return self.until(look, f"flow run {flow_run} ends")

    def cancel(self, flow_run: str) -> None:
        state = {"type": "CANCELLING", "name": "Cancelling"}
        self.post(f"/flow_runs/{flow_run}/set_state", {"state": state})

    def task_runs(self, flow_run: str, ending_with: str) -> list[dict[str, Any]]:
        """The task runs in the order in which they began, once the last one is told.

        Task runs reach the server as events, so they may follow the flow run's end.
        """

        def look() -> list[dict[str, Any]] | None:
            asked = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"}
            runs = self.post("/task_runs/filter", asked)
            told = all(run["end_time"] for run in runs)
            return runs if runs and told and runs[-1]["name"] == ending_with else None

        return self.until(look, f"task run `{ending_with}` is there")

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def post(self, path: str, body: object) -> Any:
        return self._ask("POST", path, json=body)

    def _ask(self, method: str, path: str, **how: Any) -> Any:
        def look() -> httpx.Response | None:
            # On SQLite, the events of the run before may lock the server up for a minute.
            try:
                answer = httpx.request(method, self.url + path, timeout=30, trust_env=False, **how)
            except httpx.TimeoutException:
                return None
            return None if answer.status_code == 503 else answer

        answer = self.until(look, f"{path} answers")
        assert answer.is_success, answer.text
        return answer.json()

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """What there is to see, once there is something to see."""
        deadline = time.monotonic() + _WITHIN
        while (found := look()) is None:
            assert time.monotonic() < deadline, f"{what}: not in {_WITHIN:g} s.\n{self.logs()}"
            time.sleep(0.1)
        return found

    def logs(self) -> str:
        """The ends of what server, deployment and worker printed."""
        return "\n".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}"
            for log in sorted(self.folder.glob("*.log"))
        )

    def run(self, *arguments: str) -> None:
        ended = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=ROOT,
            env=unmeasured(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_WITHIN,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


@contextmanager
def prefect_with_everything_deployed(
    folder: Path, systems: Path, database: str = ""
) -> Iterator[Prefect]:
    """A server of its own on a free port, with a worker that knows the systems of a folder.

    `database`: the URL of the server's own; else it makes a file of SQLite's, as it does unasked.
    """
    url = f"http://127.0.0.1:{_free_port()}/api"
    environment = _environment(folder, url) | {"EBBTIDE_SYSTEMS": str(systems)}
    if database:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    with ExitStack() as stack:
        port = url.removesuffix("/api").rpartition(":")[2]
        serve = ["server", "start", "--host", "127.0.0.1", "--port", port]
        server = stack.enter_context(_running("server", serve, folder, unmeasured(environment)))
        prefect = Prefect(url, folder, environment, server)
        prefect.until(lambda: _healthy(url) or None, "the server is healthy")
        prefect.run("work-pool", "create", "ebbtide", "--type", "process")
        work = ["worker", "start", "--pool", "ebbtide", "--type", "process"]
        stack.enter_context(_running("worker", work, folder, environment))
        prefect.run("deploy", "--all")
        yield prefect


@contextmanager
def busy_at_first(url: str, times: int) -> Iterator[str]:
    """Before a server, one that answers so many requests as if the database were locked.

    Task runs are told over a websocket, which does not come through here.
    """
    left = [503] * times

    class Before(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path != "/api/health" and left:
                self._answer(left.pop(), b"{}")
                return
            sent = {"Content-Type": self.headers.get("Content-Type") or "application/json"}
            asked = url.removesuffix("/api") + self.path
            answer = httpx.request(
                self.command, asked, content=body, headers=sent, timeout=60, trust_env=False
            )
            self._answer(answer.status_code, answer.content)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._pass_on()

        def do_POST(self) -> None:
            self._pass_on()

        def do_PATCH(self) -> None:
            self._pass_on()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Before) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/api"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _running(
    name: str, arguments: list[str], folder: Path, environment: dict[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment(folder: Path, url: str) -> dict[str, str]:
    """Nothing of a Prefect that the tests' own environment may know."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return clean | {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": url,
        "PREFECT_WORKER_QUERY_SECONDS": "0.5",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
    }


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
