"""Several replicas on one host: a process for each, one port for all.

Each worker is a replica of its own in the journal, with a port of its own that
sagas use, so that a cut-over knows of every one of them. This process serves
nothing: it starts the workers, starts one anew where it dies, and ends them.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ebbtide.core.errors import EbbtideError
from ebbtide.core.ports import World
from ebbtide.entrypoints.gateway.sockets import reserved

_log = logging.getLogger(__name__)

_LOOK_EVERY = 0.1
_PAUSE, _PAUSE_AT_MOST = 0.5, 30.0
"""Seconds until a worker that died at once is started anew; doubles each time."""
_STEADY = 30.0
"""Seconds after which a worker's death is not counted as one at its start."""
_END_WITHIN = 30.0
"""Seconds for requests in flight and the predictions log, then a worker is killed."""


@dataclass(frozen=True, slots=True)
class Service:
    """What every worker serves."""

    system: str
    systems: Path
    """The folder of system files."""
    host: str
    port: int
    """The port that clients use; 0: any free one."""
    name: str
    """Workers are replicas `<name>-1`, `<name>-2`, ..."""
    url: str = ""
    """Where others reach a worker, with `{port}` for its own; empty: by host and port."""


class Supervisor:
    """Keeps `workers` processes of a service alive until `stop`, or until SIGTERM."""

    def __init__(self, service: Service, world: World, workers: int) -> None:
        """Raises `Unreachable` where the port is taken."""
        self._service = service
        self._world = world
        self._reserved = reserved(service.host, service.port)
        self.port: int = self._reserved.getsockname()[1]
        self._pipe, self._held = os.pipe()
        self._workers = [_Worker(f"{service.name}-{n + 1}") for n in range(workers)]
        self._stopping = threading.Event()

    def run(self) -> None:
        """Blocks until it is stopped and every worker has answered what it had."""
        try:
            while not self._stopping.is_set():
                for worker in self._workers:
                    worker.tend(self._start, self._forget)
                self._stopping.wait(_LOOK_EVERY)
        finally:
            self._end()

    def stop(self) -> None:
        """From any thread, or from a signal handler."""
        self._stopping.set()

    def _start(self, name: str) -> "subprocess.Popen[bytes]":
        service = self._service
        told = (service.system, str(service.systems), service.host, name, service.url)
        command = [sys.executable, "-m", "ebbtide.entrypoints.gateway.worker", *told]
        process = subprocess.Popen(
            [*command, str(self.port), str(self._pipe)],
            pass_fds=(self._pipe,),
            # Ctrl-C in a terminal reaches this process alone, which ends the others in order.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        _log.info("worker %s is process %d", name, process.pid)
        return process

    def _forget(self, name: str) -> None:
        """A worker that died could not say so: no cut-over shall wait for it."""
        journal, system = self._world.journal, self._world.system
        try:
            for replica in journal.replicas(system, self._world.policy.heartbeat_within):
                if replica.name == name:
                    journal.forget(system, name, replica.url)
        except EbbtideError as fault:
            _log.warning("the journal goes on counting %s a while: %s", name, fault)

    def _end(self) -> None:
        for worker in self._workers:
            worker.terminate()
        deadline = time.monotonic() + _END_WITHIN
        for worker in self._workers:
            worker.wait(max(0.1, deadline - time.monotonic()))
        os.close(self._held)
        os.close(self._pipe)
        self._reserved.close()


class _Worker:
    """One process, and when it may be started anew."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._started = self._again_at = 0.0
        self._pause = _PAUSE

    def tend(
        self,
        start: Callable[[str], "subprocess.Popen[bytes]"],
        forget: Callable[[str], None],
    ) -> None:
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            self._died(now, self.process.returncode)
            forget(self._name)
        if self.process is None and now >= self._again_at:
            self.process, self._started = start(self._name), now

    def _died(self, now: float, code: int) -> None:
        early = now - self._started < _STEADY
        self._pause = min(_PAUSE_AT_MOST, self._pause * 2) if early else _PAUSE
        self._again_at, self.process = now + self._pause, None
        _log.error("worker %s ended (%d); anew in %.1f s", self._name, code, self._pause)

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def wait(self, within: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            _log.error("worker %s did not end in time and is killed", self._name)
            self.process.kill()
            self.process.wait()


def supervise(service: Service, world: World, workers: int) -> None:
    """Serve by several processes until SIGTERM or SIGINT."""
    supervisor = Supervisor(service, world, workers)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run()
