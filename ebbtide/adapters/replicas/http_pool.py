"""Small requests over kept HTTP connections. Standard library only: it loads in no time."""

import threading
import weakref
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

_GONE = (ConnectionResetError, BrokenPipeError)
"""What a kept connection that the other side has closed raises; so does `RemoteDisconnected`."""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


class Pool:
    """Idle connections by origin. Safe for threads; goes past every proxy."""

    def __init__(self) -> None:
        self._idle: defaultdict[tuple[str, str], list[HTTPConnection]] = defaultdict(list)
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._idle)

    def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> Response:
        """Raises OSError, `HTTPException` or ValueError where no whole answer came.

        A kept connection may have been closed at that moment: then it is asked once
        more on a new one, so ask only what may be asked twice. `timeout` in seconds,
        for connecting and for each read.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"`{url}` is no http URL")
        origin = (parts.scheme, parts.netloc)
        kept = self._take(origin)
        if kept is not None:
            try:
                return self._asked(kept, origin, parts.path, body, headers, timeout)
            except _GONE:
                kept.close()
        make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        new = make(parts.hostname, parts.port, timeout=timeout)
        return self._asked(new, origin, parts.path, body, headers, timeout)

    def close(self) -> None:
        """Give the kept connections back."""
        with self._lock:
            _close(self._idle)

    def _take(self, origin: tuple[str, str]) -> HTTPConnection | None:
        with self._lock:
            idle = self._idle[origin]
            return idle.pop() if idle else None

    def _asked(
        self,
        connection: HTTPConnection,
        origin: tuple[str, str],
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        timeout: float,
    ) -> Response:
        try:
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            connection.request("POST", path or "/", body, dict(headers))
            found = connection.getresponse()
            content = found.read()
        except (OSError, HTTPException, ValueError):
            connection.close()
            raise
        response = Response(
            found.status, {name.lower(): text for name, text in found.getheaders()}, content
        )
        if connection.sock is not None:
            with self._lock:
                self._idle[origin].append(connection)
        return response


def _close(idle: defaultdict[tuple[str, str], list[HTTPConnection]]) -> None:
    for connections in idle.values():
        for connection in connections:
            connection.close()
    idle.clear()
