"""Clients over real HTTP that never stop asking, and never ask twice.

What a response is worth is judged afterwards, by answers that were worked out
aside: a client believes nothing but the bytes that it was sent.
"""

import json
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from math import isclose
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

Row = Mapping[str, Any]
Expected = Mapping[str, Sequence[Any]]
"""Each release's answers, by its id: one for each row of the pool."""

_NOT_LAYERS = {f"x-ebbtide-{name}" for name in ("release", "epoch", "replica", "cache", "request")}
_CLIENTS = 3
_PACE = 0.2
"""Seconds from one request of a client to its next."""
_ROWS = 3
_TIMEOUT = 30.0
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request with all that came back."""

    rows: tuple[int, ...]
    """Where its rows lie in the pool."""
    status: int
    """0: no answer at all."""
    headers: Mapping[str, str]
    body: bytes

    @property
    def release(self) -> str:
        return self.headers.get("x-ebbtide-release", "")

    @property
    def layers(self) -> Mapping[str, str]:
        """What the response says of the versions that it was made by."""
        return {
            name: value
            for name, value in self.headers.items()
            if name.startswith("x-ebbtide-") and name not in _NOT_LAYERS
        }


@dataclass
class Clients:
    """Three of them, each with a connection that stays open."""

    url: str
    pool: Sequence[Row]
    asked: list[Asked] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def answered_by(self, release: str, times: int = 20) -> None:
        """Wait until so many more responses name a release."""
        before, deadline = len(self.asked), monotonic() + _PATIENCE
        while sum(each.release == release for each in self.asked[before:]) < times:
            assert monotonic() < deadline, f"{release[:12]} does not answer: {self.asked[-1:]}"
            sleep(0.02)

    def releases(self) -> list[str]:
        """In the order in which they first answered."""
        return list(dict.fromkeys(each.release for each in self.asked))

    def failed(self) -> list[Asked]:
        """No answer, or none for each row."""
        return [each for each in self.asked if len(_predictions(each)) != len(each.rows)]

    def mixed(self, expected: Expected) -> list[str]:
        """Each response that is not, word for word, what the release that it names answers."""
        first: dict[str, Mapping[str, str]] = {}
        return [
            f"{each.release[:12]} {dict(each.layers)} {each.body!r}"
            for each in self.asked
            if each.layers != first.setdefault(each.release, each.layers)
            or not _whole(each, expected)
        ]

    def _run(self, seed: int) -> None:
        place, choose = urlsplit(self.url), random.Random(seed)
        connection = HTTPConnection(place.hostname or "", place.port, timeout=_TIMEOUT)
        while not self._stop.wait(_PACE):
            rows = tuple(choose.sample(range(len(self.pool)), _ROWS))
            self.asked.append(self._ask(connection, rows))
        connection.close()

    def _ask(self, connection: HTTPConnection, rows: tuple[int, ...]) -> Asked:
        body = json.dumps({"dataframe_records": [self.pool[row] for row in rows]})
        try:
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as fault:
            connection.close()
            return Asked(rows, 0, {}, repr(fault).encode())
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Asked(rows, response.status, headers, content)


@contextmanager
def clients(url: str, pool: Sequence[Row]) -> Iterator[Clients]:
    """Ask while the block runs; what was asked at its end is still answered."""
    asking = Clients(url, pool)
    threads = [threading.Thread(target=asking._run, args=(seed,)) for seed in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield asking
    finally:
        asking._stop.set()
        for thread in threads:
            thread.join(_TIMEOUT + 5)


def _whole(asked: Asked, expected: Expected) -> bool:
    answers, given = expected.get(asked.release), _predictions(asked)
    return answers is not None and all(
        _same(one, answers[row]) for row, one in zip(asked.rows, given, strict=False)
    )


def _predictions(asked: Asked) -> list[Any]:
    """None at all for what is no response of MLflow's scoring protocol."""
    try:
        found = json.loads(asked.body)["predictions"] if asked.status == 200 else []
    except (ValueError, KeyError, TypeError):
        return []
    return found if isinstance(found, list) else []


def _same(given: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return (
            isinstance(given, Mapping)
            and given.keys() == wanted.keys()
            and all(_same(given[key], wanted[key]) for key in wanted)
        )
    return isinstance(given, int | float) and isclose(given, wanted, rel_tol=1e-6, abs_tol=1e-9)
