"""Served predictions, kept in a Delta table with the release that made them.

A request hands its row over and goes on. Where the table is away rows wait, as
many as the bounds allow; beyond them they are dropped and counted.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_log = logging.getLogger(__name__)

_LARGEST = 64 * 1024 * 1024
"""Bytes of requests and predictions that may wait."""
_LONGEST = 20_000
"""Rows that may wait."""


@dataclass(frozen=True, slots=True)
class Served:
    """One answered request."""

    at: float
    """Seconds since the epoch, UTC."""
    release: str
    epoch: int
    replica: str
    request: bytes
    prediction: bytes
    latency_ms: float
    cached: bool


Write = Callable[[Sequence[Served]], None]
Count = Callable[[str, int], None]


class PredictionsLog:
    """A bounded queue and one writer in the background."""

    def __init__(
        self, write: Write, count: Count, *, every: float = 5.0, batch: int = 5_000
    ) -> None:
        """Writes `every` so many seconds, sooner where `batch` rows wait.

        `count` is told of rows: `written`, `dropped` and `failed`.
        """
        self._write = write
        self._count = count
        self._every = every
        self._batch = batch
        self._waiting: list[Served] = []
        self._bytes = 0
        self._in_hand = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="predictions-log", daemon=True)
        self._thread.start()

    def add(self, row: Served) -> None:
        """Never waits, never raises."""
        size = len(row.request) + len(row.prediction)
        with self._lock:
            full = self._bytes + size > _LARGEST or self._rows() >= _LONGEST
            if not full:
                self._waiting.append(row)
                self._bytes += size
        if full:
            self._count("dropped", 1)
        elif len(self._waiting) >= self._batch:
            self._wake.set()

    def close(self, within: float = 10.0) -> None:
        """Write what waits; after `within` seconds it is given up and counted as dropped."""
        self._closing = True
        self._wake.set()
        self._thread.join(within)
        if left := self._rows():
            self._count("dropped", left)
            _log.error("%d served predictions were not written to the log", left)

    def _rows(self) -> int:
        return len(self._waiting) + self._in_hand

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._every)
            self._wake.clear()
            if not self._flush():
                # The rows are kept; a table that is away is not asked again at once.
                self._wake.wait(self._every) if not self._closing else None
        self._flush()

    def _flush(self) -> bool:
        with self._lock:
            rows, self._waiting = self._waiting, []
            self._in_hand = len(rows)
        if not rows:
            return True
        try:
            self._write(rows)
        except Exception:  # noqa: BLE001 - a log that fails must not fail serving
            _log.exception("%d served predictions could not be written yet", len(rows))
            self._count("failed", len(rows))
            with self._lock:
                self._waiting, self._in_hand = rows + self._waiting, 0
            return False
        with self._lock:
            self._in_hand = 0
            self._bytes -= sum(len(row.request) + len(row.prediction) for row in rows)
        self._count("written", len(rows))
        return True


def to_delta(table: str) -> Write:
    """Append to a Delta table, which the first batch makes."""

    def write(rows: Sequence[Served]) -> None:
        from deltalake import write_deltalake

        write_deltalake(table, _arrow(rows), mode="append")

    return write


def _arrow(rows: Sequence[Served]) -> Any:
    import pyarrow as pa

    columns = {
        "at": (pa.timestamp("us", tz="UTC"), [round(row.at * 1e6) for row in rows]),
        "release": (pa.string(), [row.release for row in rows]),
        "epoch": (pa.int64(), [row.epoch for row in rows]),
        "replica": (pa.string(), [row.replica for row in rows]),
        "request": (
            pa.string(),
            [row.request.decode("utf-8", "replace") for row in rows],
        ),
        "prediction": (
            pa.string(),
            [row.prediction.decode("utf-8", "replace") for row in rows],
        ),
        "latency_ms": (pa.float64(), [row.latency_ms for row in rows]),
        "cached": (pa.bool_(), [row.cached for row in rows]),
    }
    return pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})
