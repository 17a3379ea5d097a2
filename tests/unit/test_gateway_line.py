"""Who waits for whom in a replica: a proof goes ahead of every client, and nobody is lost."""

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from ebbtide.entrypoints.gateway.workers import Closed, Workers

WITHIN = 30.0


@pytest.fixture
def busy() -> Iterator[tuple[Workers, threading.Event]]:
    """One worker that is at work until it is told to go on."""
    workers, go_on, begun = Workers("test", 1), threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        go_on.wait(WITHIN)

    workers.submit(hold)
    assert begun.wait(WITHIN)
    yield workers, go_on
    go_on.set()
    workers.close()


def test_a_proof_goes_ahead_of_all_that_wait(busy: tuple[Workers, threading.Event]) -> None:
    workers, go_on = busy
    order: list[str] = []
    waiting = [workers.submit(partial(order.append, f"client {n}")) for n in range(3)]
    proofs = [workers.submit(partial(order.append, f"proof {n}"), ahead=True) for n in range(2)]
    go_on.set()
    for future in waiting + proofs:
        future.result(WITHIN)
    assert order == ["proof 0", "proof 1", "client 0", "client 1", "client 2"]


def test_what_was_submitted_is_finished_after_the_end(
    busy: tuple[Workers, threading.Event],
) -> None:
    workers, go_on = busy
    clients = [workers.submit(lambda: "answered") for _ in range(5)]
    proof = workers.submit(lambda: "proved", ahead=True)
    workers.close()
    with pytest.raises(Closed):
        workers.submit(lambda: "late", ahead=True)
    go_on.set()
    assert proof.result(WITHIN) == "proved"
    assert [future.result(WITHIN) for future in clients] == ["answered"] * 5


def test_no_work_is_lost_between_the_two_lines() -> None:
    workers = Workers("test", 4)
    futures = [workers.submit(partial(int, n), ahead=n % 3 == 0) for n in range(2000)]
    assert [future.result(WITHIN) for future in futures] == list(range(2000))
    workers.close()
