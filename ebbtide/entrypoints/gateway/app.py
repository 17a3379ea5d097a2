"""The HTTP side of a replica."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as Path

from ebbtide.entrypoints.gateway import joint, protocol
from ebbtide.entrypoints.gateway import metrics as figures
from ebbtide.entrypoints.gateway.answering import Answering, Reply, aside
from ebbtide.entrypoints.gateway.live import Live
from ebbtide.entrypoints.gateway.metrics import Metrics
from ebbtide.entrypoints.gateway.protocol import JSON, Refusal
from ebbtide.entrypoints.gateway.replica import ServingReplica
from ebbtide.entrypoints.gateway.verifying import Verifying
from ebbtide.entrypoints.gateway.warm import Warm, header
from ebbtide.entrypoints.gateway.workers import Closed

_TIMEOUT = 60.0
"""Seconds for one prediction, as MLflow's server has it."""
_IN_FLIGHT = 256
"""Requests to one release that may be at work or wait; one more is answered 503."""


class App:
    """Routes of one replica. `starlette` is the ASGI application."""

    def __init__(
        self,
        replica: ServingReplica,
        answering: Answering,
        metrics: Metrics,
        verifying: Verifying,
    ) -> None:
        self._replica = replica
        self._verifying = verifying
        self._answering = answering
        self._metrics = metrics
        self._name = header(replica.name)
        self.starlette = Starlette(
            routes=[
                Path("/invocations", self._invocations, methods=["POST"]),
                Path("/releases/{release}/invocations", self._aside, methods=["POST"]),
                Path("/releases/{release}/verify", self._verify, methods=["POST"]),
                Path("/ping", self._health, methods=["GET"]),
                Path("/health", self._health, methods=["GET"]),
                Path("/version", self._version, methods=["GET"]),
                Path("/metrics", self._figures, methods=["GET"]),
            ]
        )

    async def _invocations(self, request: Request) -> Response:
        try:
            body = await _body(request)
        except Refusal as refusal:
            return self._refuse(self._replica.live, refusal)
        started = time.perf_counter()
        fresh = request.headers.get("x-ebbtide-no-cache") == "1"
        ahead = fresh and self._is_known(request)
        ask = request.headers.get("content-type", "")
        if self._replica.overslept:
            await run_in_threadpool(self._replica.wake)
        live = self._replica.live
        while live is not None:
            # From here on, everything comes from this one release.
            work = self._answering.live(live, ask, body, fresh=fresh)
            try:
                reply = await self._run(live.warm, work, ahead=ahead)
            except Closed:
                live = self._replica.live
                continue
            except Refusal as refusal:
                return self._refuse(live, refusal)
            return self._answer(live, reply, time.perf_counter() - started)
        return self._refuse(None, _unavailable(self._replica.why_not()))

    async def _aside(self, request: Request) -> Response:
        warm = self._replica.warm(request.path_params["release"])
        if warm is None:
            wrong = "this release is not warm here"
            return self._respond(409, Refusal(409, "RESOURCE_CONFLICT", wrong).body, {})
        headers = self._headers(warm, 0, "off")
        try:
            body = await _body(request)
            ask = request.headers.get("content-type", "")
            ahead = self._is_known(request)
            reply = await self._run(warm, aside(warm, ask, body), ahead=ahead)
        except Refusal as refusal:
            return self._respond(refusal.status, refusal.body, headers)
        except Closed:
            gone = Refusal(409, "RESOURCE_CONFLICT", "this release was just let go")
            return self._respond(409, gone.body, headers)
        return self._respond(200, reply.body, headers)

    async def _verify(self, request: Request) -> Response:
        named: Mapping[str, str] = {"X-Ebbtide-Replica": self._name}
        try:
            self._refuse_stranger(request)
            found = await self._verifying.verify(request.path_params["release"])
        except Refusal as refusal:
            return self._respond(refusal.status, refusal.body, named)
        return self._respond(200, found, named)

    def _refuse_stranger(self, request: Request) -> None:
        """Clients of the predictions share this port: they must not have every byte read."""
        if not self._is_known(request):
            wrong = "only who reads the journal may ask this: the replica's token is there"
            raise Refusal(403, "PERMISSION_DENIED", wrong)

    def _is_known(self, request: Request) -> bool:
        """Whether it is asked by a rollback or a promotion, which read the journal."""
        said = request.headers.get("x-ebbtide-token", "").encode()
        return secrets.compare_digest(said, self._replica.token.encode())

    async def _run(self, warm: Warm, work: Callable[[], Reply], *, ahead: bool = False) -> Reply:
        """`ahead`: a proof waits behind no client, for until it is had a bad release may serve."""
        workers = warm.workers
        if workers.in_flight >= _IN_FLIGHT and not ahead:
            raise Refusal(503, "TEMPORARILY_UNAVAILABLE", "too many requests wait", "overload")
        # A proof is of the release as it answers one request: it is asked by itself.
        together = joint.answer if self._answering.together and not ahead else None
        future = workers.submit(work, ahead=ahead, together=together)
        workers.in_flight += 1
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            late = f"the prediction took longer than {_TIMEOUT:.0f} s"
            raise Refusal(504, "DEADLINE_EXCEEDED", late, "timeout") from None
        finally:
            workers.in_flight -= 1

    def _answer(self, live: Live, reply: Reply, seconds: float) -> Response:
        series = self._metrics.of(live.release)
        series.requests.inc()
        series.seconds.observe(seconds)
        series.cache[reply.cache].inc()
        headers = self._headers(live.warm, live.epoch, reply.cache)
        return self._respond(200, reply.body, headers)

    def _refuse(self, live: Live | None, refusal: Refusal) -> Response:
        release = live.release if live else ""
        self._metrics.of(release).requests.inc()
        self._metrics.error(release, refusal.kind)
        named: Mapping[str, str] = {"X-Ebbtide-Replica": self._name}
        if live:
            named = self._headers(live.warm, live.epoch, "off")
        if refusal.status == 413:
            named = {**named, "Connection": "close"}
        return self._respond(refusal.status, refusal.body, named)

    def _headers(self, warm: Warm, epoch: int, cache: str) -> dict[str, str]:
        return {
            **warm.headers,
            "X-Ebbtide-Epoch": str(epoch),
            "X-Ebbtide-Replica": self._name,
            "X-Ebbtide-Cache": cache,
        }

    def _respond(self, status: int, body: bytes, headers: Mapping[str, str]) -> Response:
        return Response(body, status, headers, media_type=JSON)

    async def _health(self, request: Request) -> Response:
        live, why = self._replica.live, self._replica.why_not()
        if live is None:
            return self._respond(503, _unavailable(why).body, {})
        headers = self._headers(live.warm, live.epoch, "off")
        return self._respond(200, b"\n", headers)

    async def _version(self, request: Request) -> Response:
        """MLflow's version, for its protocol is what is spoken here."""
        return self._respond(200, version("mlflow").encode(), {})

    async def _figures(self, request: Request) -> Response:
        live = self._replica.live
        self._metrics.serving(live.epoch if live else 0, *self._replica.held)
        return Response(self._metrics.text(), media_type=figures.CONTENT_TYPE)


async def _body(request: Request) -> bytes:
    """The whole body. Raises a `Refusal` (413) as soon as it is too large."""
    too_large = Refusal(
        413, "BAD_REQUEST", f"The body is larger than {protocol.LARGEST // 2**20} MiB."
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > protocol.LARGEST:
        raise too_large
    pieces, size = [], 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > protocol.LARGEST:
                raise too_large
            pieces.append(piece)
    except ClientDisconnect:
        raise Refusal(400, "BAD_REQUEST", "The client went away.") from None
    return b"".join(pieces)


def _unavailable(why: str) -> Refusal:
    return Refusal(503, "TEMPORARILY_UNAVAILABLE", f"Nothing is served: {why}.", "unavailable")
