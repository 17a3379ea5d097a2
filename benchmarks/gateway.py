"""The gateway against MLflow's own scoring server.

The same registered model, the same client in a process of its own, single-row
requests over connections that are kept: `ebbtide serve` and `mlflow models
serve --env-manager local`, with 1 and 2 workers, 4 and 16 connections. Every
request is different, so each is computed; ebbtide has all its bookkeeping on:
cache, predictions log, metrics, headers, the journal's heartbeat. A further
column repeats 100 requests, so that they come from its cache. Memory is the
resident size of all of a server's processes, ebbtide's with three releases warm.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks.client import COLUMNS, body
from benchmarks.common import Bar, Grid, Report, finish, ms, options, percentile, ratio, tell
from benchmarks.runbook import answers, free_port
from benchmarks.system import ended, program, until
from ebbtide.adapters.system.file import find_system
from ebbtide.bootstrap import world_of
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.saga import Level
from flows.order import carry_out
from reference.ride_pricing.commands import environment

_SYSTEM = "scores"
_FILE = """
system: scores
mlflow: {tracking_uri: "sqlite:///mlflow.db"}
layers:
  model:
    score: {registered_model: score, alias: champion}
serving: {replicas: WORKERS, log: served}
golden: {questions: golden.jsonl, smoke: golden.jsonl}
proved_after: 0
"""
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""For both: a prediction of one row gains nothing by threads that wait for each other."""
_POOL = 100
_WARM_UP = 0.5
_RELEASES = 3


@dataclass(frozen=True, slots=True)
class Rate:
    """What one server did for one client."""

    server: str
    workers: int
    connections: int
    per_second: float
    p50: float
    p99: float
    wrong: int


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each client asks, over how many connections."""

    seconds: float
    connections: tuple[int, ...]


def main(argv: Sequence[str] | None = None) -> int:
    asked = options(__doc__, argv)
    return finish(measure(asked.quick), asked.json)


def measure(quick: bool) -> Report:
    effort = Effort(1.0, (16,)) if quick else Effort(10.0, (4, 16))
    rates: list[Rate] = []
    memory: dict[str, float] = {}
    with TemporaryDirectory(prefix="ebbtide-benchmark-") as folder:
        root = Path(folder)
        tell("three versions of a model are trained and registered")
        _register(root)
        for workers in (1, 2):
            named = _workers(workers)
            tell(f"ebbtide serve, {named}")
            with _ebbtide(root, workers) as (pid, port):
                answered = _answers(port)
                rates += _rates("ebbtide", workers, port, effort)
                rates += _rates("ebbtide, cached", workers, port, effort, pool=_POOL)
                memory[f"ebbtide, {named}, {_RELEASES} releases warm"] = resident(pid)
            tell(f"mlflow models serve, {named}")
            with _mlflow(root, workers) as (pid, port):
                if _answers(port) != answered:
                    raise RuntimeError("The two servers do not answer the same.")
                rates += _rates("mlflow", workers, port, effort)
                memory[f"mlflow, {named}, its one model"] = resident(pid)
    return _report(rates, memory, quick)


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"


def resident(pid: int) -> float:
    """MiB that a process and all below it hold in memory."""
    parents: dict[int, int] = {}
    for each in Path("/proc").glob("[0-9]*"):
        try:
            stat = (each / "stat").read_text()
        except OSError:
            continue
        parents[int(each.name)] = int(stat.rpartition(")")[2].split()[1])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(_own(each) for each in family) / 1024


def _own(pid: int) -> int:
    """KiB; 0 where it has ended meanwhile."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def _rates(server: str, workers: int, port: int, effort: Effort, *, pool: int = 0) -> list[Rate]:
    return [
        _rate(server, workers, port, connections, effort.seconds, pool)
        for connections in effort.connections
    ]


def _rate(
    server: str, workers: int, port: int, connections: int, seconds: float, pool: int
) -> Rate:
    # Other numbers than in any run before: none of them is in the cache.
    start = 0 if pool else (workers * 100 + connections) * 1_000_000
    _client(port, connections, _WARM_UP, start + 500_000 * (not pool), pool)
    found = _client(port, connections, seconds, start, pool)
    times: list[float] = found["seconds"]
    return Rate(
        server,
        workers,
        connections,
        ratio(len(times), found["elapsed"]),
        percentile(times, 0.5),
        percentile(times, 0.99),
        found["wrong"],
    )


def _client(port: int, connections: int, seconds: float, start: int, pool: int) -> dict[str, Any]:
    told = {"port": port, "connections": connections, "seconds": seconds}
    told |= {"start": start, "pool": pool}
    words = [word for name, value in told.items() for word in (f"--{name}", str(value))]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.client", *words],
        env=environment({"PYTHONPATH": str(Path(__file__).parents[1])}),
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"The client ended with {ran.returncode}: {ran.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def _answers(port: int) -> list[float]:
    """What a server says to a few rows."""
    found = []
    for n in range(10):
        answer = httpx.post(
            f"http://127.0.0.1:{port}/invocations",
            content=body(n),
            headers={"content-type": "application/json"},
            trust_env=False,
            timeout=30,
        )
        found += [round(float(each), 9) for each in answer.raise_for_status().json()["predictions"]]
    return found


def _register(root: Path) -> None:
    """Three versions, fitted to the same made-up figures, the last one the deepest."""
    code = Path(__file__).with_name("train_scores.py")
    ran = subprocess.run(
        [sys.executable, str(code), str(_RELEASES), str(COLUMNS)],
        cwd=root,
        env=environment(_ONE_THREAD),
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"No model was registered: {ran.stderr[-2000:]}")
    rows = [json.loads(body(n))["dataframe_records"][0] for n in range(5)]
    (root / "golden.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@contextmanager
def _ebbtide(root: Path, workers: int) -> Iterator[tuple[int, int]]:
    """A gateway of its own with three releases warm: process and port."""
    folder = root / "configs" / f"workers-{workers}"
    folder.mkdir(parents=True)
    text = _FILE.replace("WORKERS", str(workers))
    state = f"state: .ebbtide-{workers}\n"
    (folder / f"{_SYSTEM}.yaml").write_text(text + state)
    file = find_system(_SYSTEM, folder)
    world, port = world_of(file), free_port()
    command = [sys.executable, "-m", "ebbtide", "serve", _SYSTEM, "--port", str(port)]
    command += ["--systems", str(folder), *(["--workers", str(workers)] * (workers > 1))]
    try:
        with program(command, cwd=root, log=root / "ebbtide.log", env=_ONE_THREAD) as server:
            until(lambda: len(world.serving.replicas()) >= workers, "the gateway", server)
            _promote_all(world)
            until(lambda: _all_warm(world, workers), "three warm releases", server)
            yield server.pid, port
    finally:
        world.serving.close()
        world.journal.close()


def _promote_all(world: World) -> None:
    for number in range(1, _RELEASES + 1):
        release = resolve(world, {"model": {"score": str(number)}})
        record(world, release, by="benchmark")
        ended(carry_out(world, Order(Level.PROMOTION, by="benchmark", to=release.id)))


def _all_warm(world: World, workers: int) -> bool:
    replicas = world.serving.replicas()
    return len(replicas) >= workers and all(len(one.loaded) == _RELEASES for one in replicas)


@contextmanager
def _mlflow(root: Path, workers: int) -> Iterator[tuple[int, int]]:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", f"models:/score/{_RELEASES}", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", str(workers)]
    env = {**_ONE_THREAD, "MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}"}
    with program(command, cwd=root, log=root / "mlflow.log", env=env) as server:
        until(lambda: answers(f"http://127.0.0.1:{port}/ping"), "MLflow's server", server)
        yield server.pid, port


def _report(rates: Sequence[Rate], memory: Mapping[str, float], quick: bool) -> Report:
    report = Report("gateway", __doc__ or "", quick)
    rows = tuple(
        (
            rate.server,
            str(rate.workers),
            str(rate.connections),
            f"{rate.per_second:,.0f}",
            ms(rate.p50),
            ms(rate.p99),
            str(rate.wrong),
        )
        for rate in sorted(rates, key=lambda rate: (rate.workers, rate.connections, rate.server))
    )
    columns = ("server", "workers", "connections", "requests/s", "median ms", "p99 ms", "wrong")
    held = tuple((name, f"{size:,.0f}") for name, size in memory.items())
    report.grids = [
        Grid("Single-row requests over kept connections", columns, rows),
        Grid("Memory", ("", "MiB resident"), held),
    ]
    report.bars = _bars(rates)
    report.figures = {"rates": [asdict(rate) for rate in rates], "memory": dict(memory)}
    return report


def _bars(rates: Sequence[Rate]) -> list[Bar]:
    by = {(rate.server, rate.workers, rate.connections): rate for rate in rates}
    bars = [Bar("wrong or failed answers", sum(rate.wrong for rate in rates), 0)]
    for (server, workers, connections), theirs in by.items():
        if server == "mlflow":
            ours = by["ebbtide", workers, connections]
            where = f"{_workers(workers)}, {connections} connections, to mlflow"
            rate, wait = ratio(ours.per_second, theirs.per_second), ratio(ours.p99, theirs.p99)
            bars.append(Bar(f"throughput, {where}", rate, 1, "times", at_least=True))
            bars.append(Bar(f"p99, {where}", wait, 1, "times"))
    return bars


if __name__ == "__main__":
    sys.exit(main())
