"""`ebbtide serve`: a replica's process, from the bound port to the last log row."""

import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from ebbtide.adapters.system.file import SystemFile
from ebbtide.core.ports import World
from ebbtide.entrypoints.gateway import garbage
from ebbtide.entrypoints.gateway.cache_guard import GuardedCache
from ebbtide.entrypoints.gateway.predictions_log import PredictionsLog, to_delta
from ebbtide.entrypoints.gateway.replica import ServingReplica
from ebbtide.entrypoints.gateway.sockets import listening, url_of

if TYPE_CHECKING:
    import uvicorn

_log = logging.getLogger(__name__)

_DRAIN = 10
_TURN = 0.0005
"""Seconds for which one thread may keep the others waiting. By Python's own 5 ms, a request that
needs a few turns would wait for a large one, or for a proof, again and again."""


class Gateway:
    """One replica, bound to a port. `run` serves until `stop`, or until SIGTERM."""

    def __init__(
        self,
        world: World,
        *,
        handler: str,
        log: str,
        host: str,
        port: int,
        name: str,
        url: str = "",
        shared_port: int = 0,
        drain: int = _DRAIN,
        joint: bool = False,
        ttl: float = 600.0,
    ) -> None:
        """`log`: a Delta table for served predictions, or empty. `port` 0: any free one.

        `url`: where others reach this replica, if not by `host` and port (`{port}` in it).
        `shared_port`: listen there too, together with other processes that share it.
        `drain`: seconds for requests in flight when it is asked to end.
        `joint`: requests that wait may be asked of a release in one call.
        `ttl`: seconds for which an answer may be given again.
        Raises `Unreachable` where the port is taken.
        """
        own = listening(host, port)
        self._sockets = [own]
        if shared_port:
            self._sockets.append(listening(host, shared_port, shared=True))
        self.url = url_of(own, host, url)
        self._handler, self._log_table = handler, log
        self._world, self._name = world, name
        self._server: uvicorn.Server | None = None
        self._drain = drain
        self._joint, self._ttl = joint, ttl
        self._stopping = threading.Event()

    def run(self) -> None:
        """Serve. Blocks; then requests in flight are answered and the log is written."""
        import uvicorn

        from ebbtide.entrypoints.gateway.answering import Answering
        from ebbtide.entrypoints.gateway.app import App
        from ebbtide.entrypoints.gateway.metrics import Metrics
        from ebbtide.entrypoints.gateway.recurring import Recurring
        from ebbtide.entrypoints.gateway.rehearsal import Rehearsal
        from ebbtide.entrypoints.gateway.verifying import Verifying

        metrics = Metrics(self._world.system, self._name)
        recurring = Recurring()
        rehearsal = Rehearsal(recurring, together=self._joint, ttl=self._ttl)
        replica = ServingReplica(self._world, self._handler, self._name, rehearsal)
        cache = GuardedCache(self._world.cache, metrics.cache_failed)
        write = to_delta(self._log_table) if self._log_table else None
        log = PredictionsLog(write, metrics.log_rows) if write else None
        verifying = Verifying(self._world)
        answering = Answering(cache, log, self._name, recurring, self._joint)
        app = App(replica, answering, metrics, verifying)
        config = uvicorn.Config(
            app.starlette,
            access_log=False,
            log_config=None,
            lifespan="off",
            proxy_headers=False,  # nobody asks who the client is
            server_header=False,
            timeout_graceful_shutdown=self._drain,
        )
        self._server = uvicorn.Server(config)
        if self._stopping.is_set():
            self._server.should_exit = True
        replica.start(self.url)
        try:
            self._server.run(sockets=self._sockets)
        finally:
            replica.close()
            verifying.close()
            cache.close()
            if log:
                log.close()

    def stop(self) -> None:
        """End as by SIGTERM. From any thread."""
        self._stopping.set()
        if self._server:
            self._server.should_exit = True


def serve(
    system_file: SystemFile,
    world: World,
    host: str,
    port: int,
    replica_name: str,
    *,
    url: str = "",
    shared_port: int = 0,
    until_closed: int | None = None,
) -> None:
    """Serve a system until SIGTERM or SIGINT; requests in flight are still answered.

    Port 0 binds a free one: the journal has the URL. `url`, `shared_port`: see `Gateway`.
    `until_closed`: a pipe's end; it ends, too, when nobody has the other end any more.
    """
    part = system_file.serving
    log = part.log if "://" in part.log or not part.log else str(system_file.at(part.log))
    _do_nothing_but_serve()
    gateway = Gateway(
        world,
        handler=part.handler,
        log=log,
        host=host,
        port=port,
        name=replica_name,
        url=url,
        shared_port=shared_port,
        joint=part.independent_rows,
        ttl=system_file.cache.ttl_seconds,
    )
    if until_closed is not None:
        threading.Thread(
            target=_stop_when_closed, args=(gateway, until_closed), name="parent", daemon=True
        ).start()
    _log.info("replica %s of %s at %s", replica_name, world.system, gateway.url)
    gateway.run()


def _do_nothing_but_serve() -> None:
    """Set this process up, from here to its end."""
    # Requests are answered side by side: threads within each (OpenMP, BLAS) would only wait
    # for one another, which halves the throughput. Who serves large batches says otherwise.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    garbage.begin()
    sys.setswitchinterval(_TURN)
    # Pinned contents are imported, also late: no bytecode must change them.
    sys.dont_write_bytecode = True
    if threading.current_thread() is threading.main_thread():
        # The server raises the signal again after its clean end: that is no death by it.
        signal.signal(signal.SIGTERM, lambda *_: None)


def _stop_when_closed(gateway: Gateway, pipe: int) -> None:
    """Nothing is ever written to it: the read ends with the process that holds the other end."""
    os.read(pipe, 1)
    gateway.stop()
