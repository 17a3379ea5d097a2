"""What becomes of one request: asked, cached, logged, counted."""

import hashlib
import logging
import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

from ebbtide.adapters.loading.release import BadAnswer, BadQuestion, LoadedRelease
from ebbtide.entrypoints.gateway import joint, protocol
from ebbtide.entrypoints.gateway.cache_guard import GuardedCache
from ebbtide.entrypoints.gateway.live import Live
from ebbtide.entrypoints.gateway.predictions_log import PredictionsLog, Served
from ebbtide.entrypoints.gateway.protocol import Refusal
from ebbtide.entrypoints.gateway.recurring import Question, Recurring
from ebbtide.entrypoints.gateway.warm import Warm

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    body: bytes
    cache: str
    """`hit`, `ahead` (made for this epoch before it began), `miss` or `off`."""


@dataclass(frozen=True, slots=True)
class Answering:
    """The live path. Runs in the release's own threads."""

    cache: GuardedCache
    log: PredictionsLog | None
    replica: str
    recurring: Recurring
    together: bool = False
    """Whether requests may be asked together: the serving code answers each row by itself."""

    def live(self, live: Live, content_type: str, body: bytes, *, fresh: bool) -> joint.Work:
        """Answer from one live release, its cache included; `fresh` goes past the cache.

        Predictions are cached by request: the same bytes are the same question.
        A canonical form would lose the order of columns, which a model without
        a signature goes by.
        """
        steps = partial(self._steps, live, content_type, body, fresh)
        return joint.Work(live.warm.loaded, steps)

    def _steps(self, live: Live, content_type: str, body: bytes, fresh: bool) -> joint.Steps:
        started = time.perf_counter()
        kind = protocol.media_type(content_type)
        key = "" if fresh else _key(kind, body)
        found, whence = self._found(live, key)
        made = found or (yield from ask(live.warm, kind, body))
        if found:
            self.recurring.note(Question(key, kind, body))
        if key and found is None:
            self.cache.put(live.token, key, made)
        self._keep(live, body, made, time.perf_counter() - started, found is not None)
        return Reply(made, whence)

    def _found(self, live: Live, key: str) -> tuple[bytes | None, str]:
        """What need not be asked, and whence; an empty key goes past the cache."""
        if not key:
            return None, "off"
        if made := live.made_ahead(key):
            return made, "ahead"
        if cached := self.cache.get(live.token, key):
            return cached, "hit"
        return None, "miss" if self.cache.up else "off"

    def _keep(self, live: Live, body: bytes, made: bytes, seconds: float, cached: bool) -> None:
        if self.log is not None:
            at, ms = time.time(), seconds * 1000
            row = Served(at, live.release, live.epoch, self.replica, body, made, ms, cached)
            self.log.add(row)


def aside(warm: Warm, content_type: str, body: bytes) -> joint.Work:
    """Answer from a release that is not live: nothing is cached, logged or counted."""

    def steps() -> joint.Steps:
        return Reply((yield from ask(warm, protocol.media_type(content_type), body)), "off")

    return joint.Work(warm.loaded, steps)


def ask(warm: Warm, kind: str, body: bytes) -> Generator[protocol.Question, list[Any], bytes]:
    """A response's body. Raises a `Refusal` for whatever goes wrong."""
    loaded = warm.loaded
    question = protocol.parse(kind, body, loaded.schema, warm.columns)
    try:
        return protocol.render((yield question))
    except BadQuestion as fault:
        raise Refusal(400, "INVALID_PARAMETER_VALUE", str(fault)) from fault
    except BadAnswer as fault:
        _log.error("%s", fault)
        raise Refusal(500, "INTERNAL_ERROR", str(fault), "answer") from fault
    except (Exception, SystemExit) as fault:
        raise _failed(loaded, fault) from fault


def _failed(loaded: LoadedRelease, fault: BaseException) -> Refusal:
    """As MLflow's server has it, a prediction that raises is a bad request: the rows
    may not suit the model. The metrics tell it from a body that cannot be read."""
    from mlflow.exceptions import MlflowException

    if isinstance(fault, MlflowException):
        return protocol.from_mlflow(fault, "prediction")
    _log.error("release %s: %r", loaded.release_id[:12], fault, exc_info=fault)
    return Refusal(
        400,
        "BAD_REQUEST",
        "Encountered an unexpected error while evaluating the model. Verify that the serialized"
        f" input Dataframe is compatible with the model for inference. {type(fault).__name__}",
        "prediction",
    )


def _key(kind: str, body: bytes) -> str:
    return hashlib.sha256(kind.encode() + b"\0" + body).hexdigest()
