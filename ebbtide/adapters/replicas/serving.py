"""The embedded gateway's replicas, as the journal knows them and as HTTP reaches them."""

from collections.abc import Mapping, Sequence
from http.client import HTTPException
from types import MappingProxyType
from typing import Any

from ebbtide.adapters.replicas.http_pool import Pool, Response
from ebbtide.core.errors import EbbtideError, NotRestorable, Unknown, Unreachable
from ebbtide.core.journal import Journal, Replica
from ebbtide.core.ports import Answer
from ebbtide.core.release import Release

_TIMEOUT = 10.0
"""Seconds for one question, connecting included."""
_CHECKED_WITHIN = 20.0
"""Seconds for looking at every byte of a release. Beyond, whoever asks looks for himself."""


class HttpServing:
    """Asks replicas over HTTP, with connections that are kept. Safe for threads."""

    def __init__(self, journal: Journal, system: str, heartbeat_within: float) -> None:
        self._journal = journal
        self._system = system
        self._within = heartbeat_within
        self._pool = Pool()

    def replicas(self) -> list[Replica]:
        """Those that have reported lately enough."""
        return self._journal.replicas(self._system, self._within)

    def ask(self, replica: Replica, rows: Sequence[Any], release: str = "") -> Answer:
        """Send rows to a replica's real serving path, past its cache.

        `release`: ask this warm release aside, not the live one. Raises
        `Unreachable` where the replica is away or serves nothing, `NotRestorable`
        where it does not hold the release, `EbbtideError` where it answers an
        error or not one prediction for each row.
        """
        import orjson

        path = f"/releases/{release}/invocations" if release else "/invocations"
        body = orjson.dumps({"dataframe_records": list(rows)})
        # Who knows the token waits behind no client.
        response = self._post(replica, path, body, _TIMEOUT, _known(replica))
        if response.status == 503:
            raise Unreachable(f"Replica {replica.name} serves nothing: {_message(response)}")
        if response.status == 409:
            raise NotRestorable(f"Replica {replica.name}: {_message(response)}")
        if response.status != 200:
            raise _error(replica, response)
        return _answer(replica, response, len(rows))

    def problems(self, replica: Replica, release: Release) -> list[str]:
        """Why the release could not be restored, found by the replica's own adapters.

        It answers only who knows the token that it has reported to the journal.
        Raises `Unreachable` where the replica, or a store that it needs, is away;
        `Unknown` where it does not know the release (or is of an older version);
        `EbbtideError` for every answer that does not speak of each pin.
        """
        path = f"/releases/{release.id}/verify"
        response = self._post(replica, path, b"", _CHECKED_WITHIN, _known(replica))
        if response.status == 503:
            raise Unreachable(f"Replica {replica.name} cannot look: {_message(response)}")
        if response.status == 404:
            raise Unknown(f"Replica {replica.name} does not know {release.short}.")
        if response.status != 200:
            raise _error(replica, response)
        return _problems(replica, response, release)

    def close(self) -> None:
        """Give the kept connections back."""
        self._pool.close()

    def _post(
        self,
        replica: Replica,
        path: str,
        body: bytes,
        timeout: float,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> Response:
        headers = {"content-type": "application/json", "x-ebbtide-no-cache": "1", **more}
        url = replica.url.rstrip("/") + path
        try:
            return self._pool.post(url, body, headers, timeout=timeout)
        except (OSError, HTTPException, ValueError) as fault:
            raise Unreachable(
                f"Replica {replica.name} at {replica.url} is away: {fault or type(fault).__name__}."
            ) from fault


def _known(replica: Replica) -> Mapping[str, str]:
    return {"x-ebbtide-token": replica.token}


def _answer(replica: Replica, response: Response, asked: int) -> Answer:
    import orjson

    try:
        predictions = tuple(orjson.loads(response.body)["predictions"])
        release = response.headers["x-ebbtide-release"]
        epoch = int(response.headers["x-ebbtide-epoch"])
    except (ValueError, KeyError, TypeError) as fault:
        raise _stranger(replica, fault) from fault
    if len(predictions) != asked:
        raise EbbtideError(
            f"Replica {replica.name} gave {len(predictions)} answers to {asked} rows."
        )
    return Answer(predictions, release, epoch)


def _problems(replica: Replica, response: Response, release: Release) -> list[str]:
    """The lines of a reply that speaks of every pin of this very release."""
    import orjson

    try:
        reply = orjson.loads(response.body)
        said = {
            (each["layer"], each["pin"], each["digest"]): _texts(each["problems"])
            for each in reply["pins"]
        }
        named = reply["release"]
    except (ValueError, KeyError, TypeError) as fault:
        raise _stranger(replica, fault) from fault
    pins = {
        (layer, pin.name, pin.digest) for layer in release.layers for pin in release.pins(layer)
    }
    if named != release.id or said.keys() != pins:
        raise EbbtideError(f"Replica {replica.name} did not look at each pin of {release.short}.")
    return [f"{layer} {name}: {text}" for (layer, name, _), texts in said.items() for text in texts]


def _texts(given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(text, str) and text for text in given):
        raise TypeError(f"{given!r} is no list of problems")
    return given


def _stranger(replica: Replica, fault: Exception) -> EbbtideError:
    return EbbtideError(
        f"What answers at {replica.url} is no replica of ebbtide: {fault!r}.",
        remedy="Look what listens on that port.",
    )


def _error(replica: Replica, response: Response) -> EbbtideError:
    return EbbtideError(f"Replica {replica.name} answered {response.status}: {_message(response)}")


def _message(response: Response) -> str:
    import orjson

    try:
        return str(orjson.loads(response.body)["message"])
    except (ValueError, KeyError, TypeError):
        return response.body[:300].decode("utf-8", "replace")
