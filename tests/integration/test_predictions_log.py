"""The log of served predictions: no request ever waits for it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ebbtide.entrypoints.gateway import predictions_log
from ebbtide.entrypoints.gateway.predictions_log import PredictionsLog, Served, to_delta


def row(n: int = 0, size: int = 1) -> Served:
    return Served(1_700_000_000.5 + n, "release", n, "here", b"q" * size, b"\xffp", 1.5, False)


class Counted:
    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()

    def __call__(self, outcome: str, n: int) -> None:
        self.rows[outcome] += n


@pytest.fixture
def counted() -> Counted:
    return Counted()


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_writer_that_hangs_holds_nobody_up(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions_log, "_LONGEST", 100)
    hanging, never = threading.Event(), threading.Event()

    def hang(rows: Sequence[Served]) -> None:
        hanging.set()
        never.wait()

    log = PredictionsLog(hang, counted, every=0.01)
    log.add(row())
    assert hanging.wait(60)
    began = time.monotonic()
    for n in range(1000):
        log.add(row(n))
    assert time.monotonic() - began < 1.0
    assert counted.rows["dropped"] == 1000 - 99
    log.close(within=0.1)
    assert counted.rows == {"dropped": 1001}
    never.set()


def test_what_waits_is_bounded_in_bytes(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions_log, "_LARGEST", 1000)
    wrote: list[Served] = []
    log = PredictionsLog(wrote.extend, counted, every=60)
    for n in range(10):
        log.add(row(n, size=300))
    log.close()
    assert [served.epoch for served in wrote] == [0, 1, 2]
    assert counted.rows == {"written": 3, "dropped": 7}


def test_rows_of_a_failed_write_are_written_later_in_order(counted: Counted) -> None:
    wrote: list[Served] = []
    fails = [True, True]

    def write(rows: Sequence[Served]) -> None:
        if fails:
            fails.pop()
            raise OSError("the table is away")
        wrote.extend(rows)

    log = PredictionsLog(write, counted, every=0.01)
    for n in range(5):
        log.add(row(n))
    wait_for(lambda: len(wrote) == 5)
    log.close()
    assert [served.epoch for served in wrote] == [0, 1, 2, 3, 4]
    assert counted.rows["written"] == 5
    assert counted.rows["dropped"] == 0


def test_a_full_batch_is_written_before_its_time(counted: Counted) -> None:
    wrote: list[Served] = []
    log = PredictionsLog(wrote.extend, counted, every=60, batch=10)
    for n in range(10):
        log.add(row(n))
    wait_for(lambda: len(wrote) == 10)
    log.close()


def test_the_table_has_a_row_for_each_answer(counted: Counted, tmp_path: Path) -> None:
    from deltalake import DeltaTable

    for n in range(2):
        log = PredictionsLog(to_delta(str(tmp_path / "served")), counted, every=60)
        log.add(row(n))
        log.close()
    table = DeltaTable(str(tmp_path / "served")).to_pandas().sort_values("epoch")
    assert list(table.columns) == [
        "at",
        "release",
        "epoch",
        "replica",
        "request",
        "prediction",
        "latency_ms",
        "cached",
    ]
    assert table["epoch"].to_list() == [0, 1]
    assert table["prediction"].to_list() == ["\ufffdp", "\ufffdp"]
    assert str(table["at"].iloc[0]) == "2023-11-14 22:13:20.500000+00:00"
