"""Where partitions are scored anew, as the system file says: threads here, or a Dask cluster.

No Prefect here: a person at the command line needs its server for nothing. The
flow spreads the same pieces over Prefect's task runner of the same kind.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ebbtide.adapters.system.file import WorkersPart, find_system
from ebbtide.core.errors import BadConfiguration, Unreachable
from ebbtide.core.ports import World
from flows.recalls import Piece, Spread, Work, failure, score
from flows.systems import open_named


def spread_of(system: str, systems: Path) -> Spread:
    """What the system file asks for. Raises `Unknown`, `BadConfiguration`."""
    workers = find_system(system, systems).workers
    if workers.kind == "threads":
        return threads(workers.count)
    _require_dask()
    return _over_dask(workers, system, str(systems.absolute()))


def threads(count: int) -> Spread:
    """So many pieces at a time in this process."""

    def spread(work: Work, pieces: Sequence[Piece]) -> list[tuple[Piece, str]]:
        with ThreadPoolExecutor(count, thread_name_prefix="rescore") as pool:
            return list(pool.map(lambda piece: (piece, failure(work, piece)), pieces))

    return spread


def local_cluster(workers: WorkersPart) -> dict[str, object]:
    """What a Dask cluster of this host is made with, where the system file names no other."""
    return {"n_workers": workers.count, "threads_per_worker": 1, "dashboard_address": None}


def scored(system: str, systems: str, piece: Piece) -> str:
    """Score one partition anew in whatever process this runs: why that failed, else empty."""
    return failure(lambda each: score(_opened(system, systems), each), piece)


@lru_cache(maxsize=2)
def _opened(system: str, systems: str) -> World:
    # A worker scores many partitions: it opens the journal, and loads the release, once.
    return open_named(system, systems)


def _require_dask() -> None:
    """To be asked before anything is recalled. Raises `BadConfiguration`."""
    if find_spec("distributed") is None:
        raise BadConfiguration(
            "`workers.kind: dask` needs Dask, which is not installed.",
            remedy="Install `ebbtide[dask]`.",
        )


def _over_dask(workers: WorkersPart, system: str, systems: str) -> Spread:
    def spread(_work: Work, pieces: Sequence[Piece]) -> list[tuple[Piece, str]]:
        if not pieces:
            return []
        try:
            with _client(workers) as client:
                ends = [client.submit(scored, system, systems, each, pure=False) for each in pieces]
                return [(piece, _why(end)) for piece, end in zip(pieces, ends, strict=True)]
        except Unreachable as fault:  # all is recalled by now: whom that concerns is still told
            return [(piece, str(fault)) for piece in pieces]

    return spread


def _why(end: Any) -> str:
    try:
        return str(end.result())
    except Exception as fault:  # noqa: BLE001 - a worker that died, or lacks what scores
        return f"{type(fault).__name__}: {fault}"


@contextmanager
def _client(workers: WorkersPart) -> Iterator[Any]:
    """Raises `Unreachable` where the scheduler that the system file names is away."""
    dask: Any = import_module("distributed")
    if not workers.address:
        made = dask.LocalCluster(**local_cluster(workers))
        with made as cluster, dask.Client(cluster) as client:
            yield client
        return
    try:
        client = dask.Client(workers.address)
    except OSError as fault:
        raise Unreachable(
            f"The Dask scheduler at {workers.address} cannot be reached: {fault}",
            remedy="Start it, or change `workers` in the system file; then the same command again.",
        ) from fault
    with client:
        yield client
