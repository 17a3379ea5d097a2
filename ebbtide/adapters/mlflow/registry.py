"""The connection to MLflow that the model and the prompt layer share.

It never creates a database, and finds out within seconds that a registry is
away: MLflow by itself retries for minutes, and makes an empty SQLite file where
one is missing.
"""

import logging
import os
import re
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from ebbtide.core.errors import (
    EbbtideError,
    FloatingReference,
    Refused,
    Unknown,
    Unreachable,
)

_PROBE_SECONDS = 4
_PROBE_HOLDS = 1.0
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
_INVALID = "INVALID_PARAMETER_VALUE"
# Only where the operator has said nothing: a rollback cannot wait for the
# default of seven retries with growing pauses, and tells nobody about itself.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

_Found = TypeVar("_Found")


class Registry:
    """One MLflow, by its tracking and its registry URI."""

    def __init__(self, tracking_uri: str, registry_uri: str = "") -> None:
        """An empty `registry_uri` is the tracking URI."""
        self.tracking_uri = tracking_uri
        self.registry_uri = registry_uri or tracking_uri
        self._answered: dict[str, float] = {}
        self._files: dict[str, tuple[int, int]] = {}

    @contextmanager
    def calls(self) -> Iterator[Any]:
        """The client, known to answer. What it raises becomes one of ebbtide's errors.

        `Unknown` for what is not there, `Refused` for what MLflow finds invalid,
        `Unreachable` for all else: an outcome that nobody knows is no success.
        """
        for uri in {self.tracking_uri, self.registry_uri}:
            self._probe(uri)
        with self._translated():
            yield self._client

    def _probe(self, uri: str) -> None:
        """A database file is believed while it is the same file, a server for a second."""
        mark = _mark(uri)
        if mark is not None and self._files.get(uri) == mark:
            return
        now = time.monotonic()
        if now - self._answered.get(uri, -_PROBE_HOLDS) >= _PROBE_HOLDS:
            _probe(uri)
            if mark is not None:
                self._files[uri] = mark
            elif not _is_sqlite(uri):
                self._answered[uri] = time.monotonic()

    @cached_property
    def _client(self) -> Any:
        _prepare_environment()
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.registry_uri)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except EbbtideError:
            raise
        except Exception as fault:
            raise _named(fault, self.registry_uri) from fault


def is_cold() -> bool:
    """Whether MLflow is yet to be imported: that takes two to four seconds."""
    return "mlflow.tracking" not in sys.modules


def absent_as_none(call: Callable[[], _Found], *, alias: bool = False) -> _Found | None:
    """What MLflow answers, None where it says that there is no such thing.

    `alias`: for a missing alias MLflow answers that the parameter is invalid.
    """
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except MlflowException as fault:
        if fault.error_code in _ABSENT or (alias and fault.error_code == _INVALID):
            return None
        raise


def is_version(ask: str) -> bool:
    """Whether a person asks for a plain version number."""
    return bool(_VERSION.fullmatch(ask))


def floating(what: str, ask: str, today: str) -> FloatingReference:
    """The refusal of an alias or of `latest`. `today` is the version that it leads to, or empty."""
    remedy = f"Today it is version {today}: ask for {today}." if today else ""
    return FloatingReference(
        f"`{ask}` is no pin of {what}: it can lead to another version tomorrow.",
        remedy=remedy or "Ask for a version number.",
    )


def _prepare_environment() -> None:
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow  # its own logging set-up comes first

    if not os.environ.get("MLFLOW_LOGGING_LEVEL"):
        logging.getLogger(mlflow.__name__).setLevel(logging.WARNING)


def _named(fault: Exception, uri: str) -> EbbtideError:
    from mlflow.exceptions import MlflowException

    if isinstance(fault, MlflowException):
        if fault.error_code in _ABSENT:
            return Unknown(f"MLflow: {fault.message}")
        if fault.error_code == _INVALID:
            return Refused(f"MLflow: {fault.message}")
    return _away(uri, str(fault))


def _is_sqlite(uri: str) -> bool:
    return urlsplit(uri).scheme.partition("+")[0] == "sqlite"


def _mark(uri: str) -> tuple[int, int] | None:
    """Which file an SQLite URI leads to; None where it is none, or nothing is in it."""
    if not _is_sqlite(uri):
        return None
    try:
        found = os.stat(urlsplit(uri).path.removeprefix("/"))
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found.st_size else None


def _probe(uri: str) -> None:
    """Raises `Unreachable`, within 4 seconds, where nothing answers at a store's URI."""
    parts = urlsplit(uri)
    scheme = parts.scheme.partition("+")[0]
    if scheme == "sqlite":
        _probe_file(uri, parts.path.removeprefix("/"))
    elif scheme in ("http", "https"):
        _probe_server(uri)
    elif scheme in _DATABASE_PORTS and parts.hostname:
        place = (parts.hostname, parts.port or _DATABASE_PORTS[scheme])
        try:
            socket.create_connection(place, timeout=_PROBE_SECONDS).close()
        except OSError as fault:
            raise _away(uri, str(fault)) from fault


def _probe_file(uri: str, name: str) -> None:
    if not name or name == ":memory:" or name.startswith("file:"):
        return
    path = Path(name).resolve()
    try:
        # Read-only, because opening it otherwise makes an empty database.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            there = database.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'registered_models'"
            ).fetchone()
    except sqlite3.Error as fault:
        raise _away(uri, str(fault)) from fault
    if not there:
        raise _away(uri, "it is no MLflow database")


def _probe_server(uri: str) -> None:
    """Asks for something that makes the server read its database; any answer but 5xx will do."""
    _prepare_environment()
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(  # type: ignore[no-untyped-call]  # MLflow has no types here
            get_default_host_creds(uri),  # type: ignore[no-untyped-call]  # likewise
            "/api/2.0/mlflow/registered-models/search",
            "GET",
            params={"max_results": 1},
            max_retries=0,
            timeout=_PROBE_SECONDS,
            raise_on_status=False,
        )
    except Exception as fault:
        raise _away(uri, str(fault)) from fault
    if answer.status_code >= 500:
        raise _away(uri, f"it answers {answer.status_code}")


def _away(uri: str, why: str) -> Unreachable:
    parts = urlsplit(uri)
    if parts.password:
        uri = uri.replace(f":{parts.password}@", ":***@")
        why = why.replace(parts.password, "***")
    return Unreachable(
        f"MLflow at {uri} cannot be reached: {why[:300]}",
        remedy="Start it, or correct `mlflow` in the system file.",
    )
