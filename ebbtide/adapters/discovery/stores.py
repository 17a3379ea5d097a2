"""What stores have of a system: MLflow's registry, Delta tables, Redis. Reads only."""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ebbtide.adapters.discovery.repository import relative
from ebbtide.adapters.discovery.tree import DELTA_LOG, Trouble
from ebbtide.core.errors import EbbtideError

_SQLITE = "sqlite:///"
_MOST = 1_000
"""Names that are taken from a registry."""
_MOST_TABLES = 200
_MOST_LISTINGS = 500
"""Requests to an object store in the search for tables."""
_BUCKET_DEPTH = 4
_PROBE_SECONDS = 2.0
_RUN = "ebbtide.run"
"""What a commit of a batch output carries."""
_COMMITS = 20
"""Newest commits that are looked at for it."""
_LOGGED = frozenset({"release", "epoch", "replica", "request", "prediction", "latency_ms"})


@dataclass(frozen=True, slots=True)
class Named:
    """A registered model or a prompt, with the aliases that are set on it."""

    name: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Registry:
    """One MLflow, or why it does not answer."""

    tracking_uri: str
    """As the system file has it."""
    origin: str
    """How it was come by: a flag, a variable, a file."""
    registry_uri: str = ""
    models: tuple[Named, ...] = ()
    prompts: tuple[Named, ...] = ()
    problem: str = ""

    @property
    def is_own(self) -> bool:
        """Whether it is a file of this system's own: then all that it registers belongs to it."""
        return self.tracking_uri.startswith(_SQLITE)


@dataclass(frozen=True, slots=True)
class Table:
    """A Delta table that could be opened."""

    path: str
    """Relative to the root, or a URI."""
    version: int
    columns: int
    is_log: bool = False
    """Whether the gateway made it: served predictions, no data of the system."""
    is_output: bool = False
    """Whether a job has lately written it through `ebbtide.outputs`."""


@dataclass(frozen=True, slots=True)
class CacheServer:
    url: str
    origin: str
    answers: bool


def registry(uri: str, origin: str, root: Path, registry_uri: str = "") -> Registry:
    """What an MLflow registers. One that is away is told, after seconds, never raised."""
    here, elsewhere = portable(uri, root), portable(registry_uri, root)
    if urlsplit(uri).scheme in ("", "file"):
        why = "a folder of files, which MLflow no longer serves: run `mlflow migrate-filestore`"
        return Registry(here, origin, problem=why)
    from ebbtide.adapters.mlflow.registry import Registry as Connection

    try:
        with Connection(_absolute(here, root), _absolute(elsewhere, root)).calls() as client:
            models = tuple(
                Named(each.name, tuple(sorted(each.aliases or {})))
                for each in _pages(client.search_registered_models)
            )
            prompts = tuple(Named(each.name) for each in _pages(client.search_prompts))
    except EbbtideError as fault:
        return Registry(here, origin, elsewhere, problem=fault.message)
    return Registry(here, origin, elsewhere, models, prompts)


def portable(uri: str, root: Path) -> str:
    """A URI as the system file has it: a SQLite file below the root relative to that.

    As MLflow reads it, a relative file starts from the current folder.
    """
    if not uri.startswith(_SQLITE):
        return uri
    file = Path(os.path.abspath(uri.removeprefix(_SQLITE)))  # noqa: PTH100 - follows no link
    return _SQLITE + (relative(file, root) if file.is_relative_to(root) else str(file))


def without_password(url: str) -> str:
    """A URL that can be shown, or kept in git."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def tables(places: Iterable[Path], root: Path) -> tuple[list[Table], list[Trouble]]:
    """Delta tables in folders, opened one by one."""
    named = [relative(path, root) if path.is_relative_to(root) else str(path) for path in places]
    return _opened(named, root)


def tables_below(uri: str, root: Path) -> tuple[list[Table], list[Trouble]]:
    """Delta tables below a prefix of an object store, as far as some hundred listings lead.

    Credentials come from the environment, as for the tables themselves.
    """
    from pyarrow.fs import FileSystem

    try:
        store, start = FileSystem.from_uri(uri)
        found, cut = _listed(store, start)
    except Exception as fault:  # noqa: BLE001 - each store raises errors of its own
        return [], [Trouble(without_password(uri), f"cannot be listed: {_first_line(fault)}")]
    prefix = uri.rstrip("/")
    opened, troubles = _opened(
        [prefix + path.removeprefix(start.rstrip("/")) for path in found], root
    )
    return opened, [*troubles, *(Trouble(uri, why) for why in cut)]


def _listed(store: Any, start: str) -> tuple[list[str], list[str]]:
    from pyarrow.fs import FileSelector, FileType

    found: list[str] = []
    queue, listings = deque([(start, 0)]), 0
    while queue and listings < _MOST_LISTINGS:
        path, depth = queue.popleft()
        listings += 1
        inside = [
            info.path
            for info in store.get_file_info(FileSelector(path))
            if info.type is FileType.Directory
        ]
        if any(each.rstrip("/").rpartition("/")[2] == DELTA_LOG for each in inside):
            found.append(path)
        elif depth < _BUCKET_DEPTH:
            queue.extend((each, depth + 1) for each in inside)
    return found, [f"stopped after {listings} listings: name a deeper prefix"] if queue else []


def _opened(paths: list[str], root: Path) -> tuple[list[Table], list[Trouble]]:
    found: list[Table] = []
    troubles: list[Trouble] = []
    if len(paths) > _MOST_TABLES:
        why = f"{len(paths)} Delta tables; only the first {_MOST_TABLES} were opened"
        troubles.append(Trouble(str(root), why))
    for path in paths[:_MOST_TABLES]:
        try:
            found.append(table(path, root))
        except Exception as fault:  # noqa: BLE001 - delta-rs raises errors of its own
            why = f"a Delta table that cannot be opened: {_first_line(fault)}"
            troubles.append(Trouble(path, why))
    return found, troubles


def table(path: str, root: Path) -> Table:
    """Open one Delta table, by a path relative to the root or a URI. Raises what delta-rs does."""
    from deltalake import DeltaTable

    opened = DeltaTable(path if "://" in path else root / path)
    columns = [field.name for field in opened.schema().fields]
    is_output = any(_RUN in commit for commit in opened.history(_COMMITS))
    return Table(path, opened.version(), len(columns), set(columns) >= _LOGGED, is_output)


def cache_server(url: str, origin: str) -> CacheServer:
    """A Redis by URL, and whether something answers there."""
    parts = urlsplit(url)
    place = (parts.hostname or "localhost", parts.port or 6379)
    try:
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(_PROBE_SECONDS)
                connection.connect(parts.path)
        else:
            socket.create_connection(place, timeout=_PROBE_SECONDS).close()
    except OSError:
        return CacheServer(url, origin, answers=False)
    return CacheServer(url, origin, answers=True)


def _pages(search: Callable[..., Any]) -> list[Any]:
    found: list[Any] = []
    token: str | None = None
    while len(found) < _MOST:
        page = search(max_results=100, page_token=token)
        found += page
        token = page.token
        if not token:
            break
    return found


def _absolute(uri: str, root: Path) -> str:
    if uri.startswith(_SQLITE) and not uri.startswith(f"{_SQLITE}/"):
        return _SQLITE + str(root / uri.removeprefix(_SQLITE))
    return uri


def _first_line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0][:300]
