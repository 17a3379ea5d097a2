"""Effects over HTTP: one POST for each attempt, its key in the header `Idempotency-Key`."""

import os
import re
import weakref
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING

from ebbtide.adapters.system.things import EffectTarget
from ebbtide.core.digests import canonical
from ebbtide.core.effects import Effect, Ended, Receiver, Sent

if TYPE_CHECKING:
    import httpx

_KEPT = 4096
"""Bytes of an answer that are kept."""
_AGAIN = {408, 409, 425, 429}
"""Refusals that are for now: too slow, the same key is under way, too early, too many."""
_NOT_TAKEN = {425, 429}
"""After these nothing has taken effect."""
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class HttpReceivers:
    """Satisfies `ebbtide.core.effects.Receivers`. Follows no redirect."""

    def __init__(self, targets: Mapping[str, EffectTarget]) -> None:
        self._targets = targets

    @property
    def told(self) -> Mapping[str, Receiver]:
        return {
            kind: Receiver(target.timeout, target.attempts, target.backoff)
            for kind, target in self._targets.items()
        }

    def send(self, effect: Effect) -> Sent:
        """One POST. An answer that says neither yes nor no leaves the effect unsure."""
        import httpx

        target = self._targets[effect.kind]
        missing = _missing(target)
        if missing:
            return Sent(Ended.AGAIN, f"The environment variable {missing} is not set.")
        # Named by its kind: a URL may hold a password, and this is written down.
        name = f"Target `{effect.kind}`"
        try:
            return self._post(effect, target, name)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError) as fault:
            return Sent(Ended.AGAIN, f"{name} cannot be asked: {type(fault).__name__}")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as fault:
            return Sent(Ended.AGAIN, f"{name} cannot be reached: {_named(fault)}")
        except httpx.HTTPError as fault:
            said = f"{name} gave no answer: {_named(fault)}"
            return Sent(Ended.AGAIN, said, unsure=True)

    def _post(self, effect: Effect, target: EffectTarget, name: str) -> Sent:
        deadline = monotonic() + 2 * target.timeout
        with self._client.stream(
            "POST",
            target.url,
            content=canonical(effect.payload),
            headers=_headers(effect, target),
            timeout=target.timeout,
        ) as response:
            answer = _beginning(response, deadline)
        return _judged(response, answer, name)

    @cached_property
    def _client(self) -> "httpx.Client":
        import httpx

        client = httpx.Client(follow_redirects=False)
        weakref.finalize(self, client.close)
        return client


def _headers(effect: Effect, target: EffectTarget) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Idempotency-Key": f"{effect.system}/{effect.key}",
        "Ebbtide-Kind": effect.kind,
        "Ebbtide-Release": effect.release,
        "Ebbtide-Attempt": str(effect.attempts),
        **({"Ebbtide-Undoes": f"{effect.system}/{effect.undoes}"} if effect.undoes else {}),
        **{name: _VARIABLE.sub(_value, text) for name, text in target.headers.items()},
    }


def _missing(target: EffectTarget) -> str:
    wanted = [name for text in target.headers.values() for name in _VARIABLE.findall(text)]
    return next((name for name in wanted if name not in os.environ), "")


def _value(match: re.Match[str]) -> str:
    return os.environ[match[1]]


def _beginning(response: "httpx.Response", deadline: float) -> str:
    """What the answer begins with. The status alone decides: a body may be cut short."""
    import httpx

    found = b""
    with suppress(httpx.HTTPError):
        for part in response.iter_bytes():
            found += part
            if len(found) >= _KEPT or monotonic() > deadline:
                break
    return found[:_KEPT].decode("utf-8", "replace")


def _judged(response: "httpx.Response", answer: str, name: str) -> Sent:
    status = response.status_code
    if response.is_success:
        return Sent(Ended.TAKEN, f"{name} answered {status}.", answer)
    said = f"{name} answered {status}."  # a refusal often repeats what it refuses
    if status >= 500 or status in _AGAIN:
        wait = _retry_after(response.headers.get("Retry-After", ""))
        return Sent(Ended.AGAIN, said, answer, unsure=status not in _NOT_TAKEN, wait=wait)
    return Sent(Ended.REFUSED, said, answer)


def _retry_after(text: str) -> float | None:
    """Seconds. A date is not understood: then the dispatcher's own waiting is enough."""
    return float(text) if re.fullmatch(r"[0-9]{1,6}", text) else None


def _named(fault: Exception) -> str:
    return str(fault) or type(fault).__name__
