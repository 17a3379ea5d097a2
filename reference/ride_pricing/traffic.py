"""Riders: an HTTP client in a process of its own that never stops asking.

It keeps its connections open, as a mobile app's backend does, and never asks
twice: a request that is lost is a failure. What each response was worth is
decided by `oracle.Oracle`, here, not by the gateway.
"""

import argparse
import json
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO
from urllib.parse import urlsplit

from ebbtide.core.errors import EbbtideError
from reference.ride_pricing.commands import environment
from reference.ride_pricing.oracle import RELEASE, Judged, Oracle, Verdict

_TIMEOUT = 15.0
"""Seconds until an answer counts as lost."""
_AFTER_A_FAILURE = 0.05
_POOL = 150
"""Different requests. Asked again and again, so that cached answers are judged as well."""
_ROWS = 4


@dataclass(frozen=True, slots=True)
class Served:
    """One request as its client saw it."""

    at: float
    """When it was sent, seconds since the epoch."""
    seconds: float
    status: int
    """0: no answer at all."""
    epoch: str
    cache: str
    release: str
    verdict: Verdict
    why: str
    price_error: float | None


class Traffic:
    """Starts the client, counts while it runs, and ends it.

    `questions` is a JSON Lines file of rows; `expected` the folder of the oracle,
    which must have a release's answers before that release serves, or within
    `patience` seconds: a release that is made meanwhile is not known beforehand.
    """

    def __init__(
        self,
        url: str,
        *,
        questions: Path,
        expected: Path,
        out: Path,
        rate: float = 40.0,
        connections: int = 4,
        patience: float = 0.0,
    ) -> None:
        self._out = out
        self._read = 0
        self._seen: list[Served] = []
        options = {"url": url, "questions": questions, "expected": expected, "out": out}
        options |= {"rate": rate, "connections": connections, "patience": patience}
        named = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        self._command = [sys.executable, "-m", __name__, *named]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._out.write_text("")
        # The pipe's end tells the client that we are gone, however we went.
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> list[Served]:
        """End the client, its open requests answered. All responses, oldest first."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(_TIMEOUT + 5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.returncode:
                raise EbbtideError(
                    f"The traffic client ended with {process.returncode}: its counts are not whole."
                )
        return self.served()

    def served(self) -> list[Served]:
        """All responses up to now, by the time at which they were asked."""
        with self._out.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rpartition("\n")[0]
        self._read += len(whole.encode()) + 1 if whole else 0
        self._seen += [_load(line) for line in whole.splitlines()]
        return sorted(self._seen, key=lambda served: served.at)

    def counts(self) -> Mapping[Verdict, int]:
        """How many were served, failed and mixed, by the client's own judgement."""
        found = Counter(served.verdict for served in self.served())
        return {verdict: found[verdict] for verdict in Verdict}

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None


def _load(line: str) -> Served:
    found = json.loads(line)
    return Served(**{**found, "verdict": Verdict(found["verdict"])})


class _Rider(threading.Thread):
    """One connection, at a steady pace."""

    def __init__(
        self,
        url: str,
        pool: Sequence[Sequence[Mapping[str, str]]],
        pace: float,
        seed: int,
        stop: threading.Event,
        found: "queue.Queue[_Raw]",
    ) -> None:
        super().__init__(daemon=True)
        host = urlsplit(url)
        self._connection = HTTPConnection(host.hostname or "", host.port, timeout=_TIMEOUT)
        self._path = f"{host.path.rstrip('/')}/invocations"
        self._pool, self._pace = pool, pace
        self._random = random.Random(seed)
        self._stop_asked, self._found = stop, found

    def run(self) -> None:
        due = time.monotonic() + self._random.uniform(0, self._pace)
        while not self._stop_asked.wait(max(0.0, due - time.monotonic())):
            # Lost time is not made up for by a burst.
            due = max(due + self._pace, time.monotonic() - 1.0)
            raw = self._ask(self._random.choice(self._pool))
            self._found.put(raw)
            if not raw.status:
                self._stop_asked.wait(_AFTER_A_FAILURE)
        self._connection.close()

    def _ask(self, rows: Sequence[Mapping[str, str]]) -> "_Raw":
        at, started = time.time(), time.perf_counter()
        body = json.dumps({"dataframe_records": rows}).encode()
        try:
            self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as fault:
            self._connection.close()
            lost = f"{type(fault).__name__}: {fault}"
            return _Raw(rows, at, time.perf_counter() - started, 0, {}, lost.encode())
        headers = {name.lower(): value for name, value in response.getheaders()}
        return _Raw(rows, at, time.perf_counter() - started, response.status, headers, content)


@dataclass(frozen=True, slots=True)
class _Raw:
    """A response before it is judged; for a lost one the body says why."""

    rows: Sequence[Mapping[str, str]]
    at: float
    seconds: float
    status: int
    headers: Mapping[str, str]
    body: bytes


def ride(
    url: str,
    *,
    questions: Path,
    expected: Path,
    out: Path,
    rate: float,
    connections: int,
    patience: float,
    stop: threading.Event,
) -> None:
    """Ask until told to stop; write one JSON line for each response."""
    found: queue.Queue[_Raw] = queue.Queue()
    pool = _requests(questions)
    pace = connections / rate
    riders = [_Rider(url, pool, pace, seed, stop, found) for seed in range(connections)]
    for rider in riders:
        rider.start()
    oracle = Oracle(expected)
    waiting: list[_Raw] = []
    with out.open("a") as file:
        while any(rider.is_alive() for rider in riders) or not found.empty():
            waiting += _come_in(found)
            waiting = _judged_as_known(file, oracle, waiting, patience)
        _write(file, oracle, waiting)


def _come_in(found: "queue.Queue[_Raw]") -> "list[_Raw]":
    """What has come in since; waits a little for the first."""
    try:
        return [found.get(timeout=0.1), *(found.get() for _ in range(found.qsize()))]
    except queue.Empty:
        return []


def _named(raw: "_Raw") -> str:
    return raw.headers.get(RELEASE, "")


def _judged_as_known(
    file: TextIO, oracle: Oracle, waiting: "Sequence[_Raw]", patience: float
) -> "list[_Raw]":
    """Judge all but what may wait for its release's answers; that is returned."""
    late = time.time() - patience
    unknown = {name for name in map(_named, waiting) if not oracle.knows(name)}
    waits = [_named(raw) in unknown and raw.at > late for raw in waiting]
    _write(file, oracle, [raw for raw, wait in zip(waiting, waits, strict=True) if not wait])
    return [raw for raw, wait in zip(waiting, waits, strict=True) if wait]


def _write(file: TextIO, oracle: Oracle, responses: "Sequence[_Raw]") -> None:
    file.writelines(json.dumps(asdict(_judged(oracle, raw))) + "\n" for raw in responses)
    file.flush()


def _judged(oracle: Oracle, raw: _Raw) -> Served:
    found = oracle.judge(raw.rows, raw.status, raw.headers, raw.body)
    if found.verdict is Verdict.FAILED:
        found = Judged(Verdict.FAILED, f"{found.why}: {raw.body[:200].decode(errors='replace')}")
    return Served(
        at=raw.at,
        seconds=raw.seconds,
        status=raw.status,
        epoch=raw.headers.get("x-ebbtide-epoch", ""),
        cache=raw.headers.get("x-ebbtide-cache", ""),
        release=raw.headers.get("x-ebbtide-release", ""),
        verdict=found.verdict,
        why=found.why,
        price_error=found.price_error,
    )


def _requests(questions: Path) -> list[list[Mapping[str, str]]]:
    rows = [json.loads(line) for line in questions.read_text().splitlines()]
    rng = random.Random(0)
    return [rng.sample(rows, _ROWS) for _ in range(_POOL)]


def _stop_with_parent(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()


def _main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", required=True)
    for name in ("questions", "expected", "out"):
        options.add_argument(f"--{name}", type=Path, required=True)
    for name in ("rate", "patience"):
        options.add_argument(f"--{name}", type=float, required=True)
    options.add_argument("--connections", type=int, required=True)
    stop = threading.Event()
    # Our parent ends us; a Ctrl-C at its terminal is its business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    ride(**vars(options.parse_args()), stop=stop)


if __name__ == "__main__":
    _main()
