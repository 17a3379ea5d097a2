"""PostgreSQL is killed and started again under a journal in use: a cluster of the test's own."""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import pytest

from tests.crash.journeys import Journey
from tests.crash.production import Production, produced
from tests.ride_pricing import Built

_USER = "postgres"
_ORDERS = 3
"""Under restarts at random moments."""
_AWAY_FROM = (
    "saga/opened",
    "data.restore_tables/do/effect-done",
    "route.switch/do/intent-written",
    "route.switch/do/effect-done",
    "journal/uncommitted#12",
)
"""Where the database goes away for good: a saga before, at and behind its switch."""


class Cluster:
    """A PostgreSQL server that may be killed."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "data"
        self._log = folder / "log"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"postgresql://{_USER}@127.0.0.1:{self._port}/postgres"
        self._run("initdb", "--username", _USER, "--auth", "trust", "--no-sync")
        self.start()

    def start(self) -> None:
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        self._run("pg_ctl", "start", "--wait", "--log", str(self._log), "--options", options)

    def kill(self) -> None:
        """As a loss of power would: what was not on its disk is gone."""
        self._run("pg_ctl", "stop", "--mode", "immediate")

    def _run(self, program: str, *words: str) -> None:
        # It refuses to run as root.
        user = _USER if os.geteuid() == 0 else None
        command = [_found(program), *words, "--pgdata", str(self._data)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, cwd="/")


def _found(program: str) -> str:
    places = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))[::-1]
    found = shutil.which(program, path=os.pathsep.join([os.environ["PATH"], *places]))
    if found is None:
        raise FileNotFoundError(f"{program} of PostgreSQL is not installed")
    return found


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with TemporaryDirectory(prefix="ebbtide-cluster-") as folder:
        try:
            if os.geteuid() == 0:
                shutil.chown(folder, _USER)
            made = Cluster(Path(folder))
        except (LookupError, FileNotFoundError) as fault:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"no PostgreSQL of its own can be started: {fault}")
        yield made
        made.kill()


@contextmanager
def killed_now_and_then(cluster: Cluster) -> Iterator[list[float]]:
    """It is killed within every two seconds, a quick saga's time too, and comes back within one."""
    stop, deaths, random = threading.Event(), [], Random(5)

    def go() -> None:
        while not stop.wait(random.uniform(0.1, 2)):
            cluster.kill()
            deaths.append(monotonic())
            sleep(random.uniform(0, 1))
            cluster.start()

    killer = threading.Thread(target=go)
    killer.start()
    try:
        yield deaths
    finally:
        stop.set()
        killer.join()


def test_no_saga_is_lost_with_the_database(
    cluster: Cluster, built_once_for_all: Built, tmp_path: Path
) -> None:
    built = built_once_for_all.copy(tmp_path / "workspace")
    with produced(built, tmp_path, cluster.url) as made:
        for point in _AWAY_FROM:
            journey = _next(made)
            code = _away_from(point, journey, made, cluster)
            assert code, f"nothing was missed from {point} on"
            _recovered(journey, made)
        for _ in range(_ORDERS):
            journey = _next(made)
            with killed_now_and_then(cluster) as deaths:
                made.order(journey).ended()
                while not deaths:
                    sleep(0.05)
            _recovered(journey, made)


def _next(made: Production) -> Journey:
    journey = made.journeys["system again" if made.live == "v1" else "system"]
    made.begin(journey)
    return journey


def _away_from(point: str, journey: Journey, made: Production, cluster: Cluster) -> int:
    """The exit code of an order that finds the database away from this point to its end."""
    order = made.order(journey, EBBTIDE_STOP_AT=point)
    try:
        order.stopped()
        cluster.kill()
        order.go_on()
        return order.ended().code
    finally:
        order.gone()
        cluster.start()


def _recovered(journey: Journey, made: Production) -> None:
    made.expire()
    recovered = made.recover()
    assert recovered.code == 0, recovered.out
    _, wrong = made.settled(journey)
    assert not wrong, wrong
