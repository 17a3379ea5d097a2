"""What of an AI system is there: found by looking only, nothing is written or changed.

What cannot be looked at is told as a trouble and never stops the look.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ebbtide.adapters.discovery import repository, stores
from ebbtide.adapters.discovery.repository import Out, Questions, Versioned, relative
from ebbtide.adapters.discovery.stages import StageSeen, stages
from ebbtide.adapters.discovery.stores import CacheServer, Registry, Table
from ebbtide.adapters.discovery.tree import Limits, Tree, Trouble, look
from ebbtide.core.errors import EbbtideError


@dataclass(frozen=True, slots=True)
class Source:
    """A URL, and how it was come by."""

    url: str
    origin: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """All that was found. Paths are as the system file has them: relative to `root`."""

    root: Path
    git: str
    """The git repository around the root, relative to it; empty: none."""
    registry: Registry | None
    outs: tuple[Out, ...]
    """Outputs of DVC pipelines, features first."""
    stages: tuple[StageSeen, ...]
    """What the pipelines read and write."""
    tables: tuple[Table, ...]
    config: tuple[Versioned, ...]
    serving: tuple[Versioned, ...]
    golden: tuple[Questions, ...]
    cache: CacheServer | None
    read: frozenset[str]
    """Names of tables that the serving code speaks of."""
    troubles: tuple[Trouble, ...]

    def is_read_live(self, table: Table) -> bool:
        """Whether serving seems to read the table: its code has the name in quotes."""
        return table.path.rpartition("/")[2] in self.read


def discover(
    root: Path,
    output: Path,
    *,
    mlflow: Source | None = None,
    registry_uri: str = "",
    find_registry: bool = True,
    redis: Source | None = None,
    below: Sequence[str] = (),
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
) -> Discovery:
    """Look at a folder and at the stores that were named.

    `output` is the folder of system files. `below` are more folders, or prefixes
    of object stores, with Delta tables.
    """
    tree = look(root, limits)
    git, troubles = _git(root)
    outs, more = repository.outs(tree)
    troubles += [*tree.troubles, *more]
    config, more = repository.configuration(tree, output)
    troubles += more
    serving, more = repository.serving(tree)
    troubles += more
    tables, more = _tables(tree, below, limits)
    troubles += more
    mlflow = mlflow or (_own_registry(tree) if find_registry else None)
    names = {table.path.rpartition("/")[2] for table in tables}
    code = [root / each.repository / each.path for each in serving]
    return Discovery(
        root=root,
        git=git,
        registry=stores.registry(mlflow.url, mlflow.origin, root, registry_uri) if mlflow else None,
        outs=tuple(outs),
        stages=tuple(stages(tree)),
        tables=tuple(tables),
        config=tuple(config),
        serving=tuple(serving),
        golden=tuple(repository.questions(tree)),
        cache=stores.cache_server(redis.url, redis.origin) if redis else None,
        read=frozenset().union(*(repository.read_in(folder, names) for folder in code)),
        troubles=tuple(troubles),
    )


def _git(root: Path) -> tuple[str, list[Trouble]]:
    try:
        top = repository.git_top(root)
    except EbbtideError as fault:
        return "", [Trouble(str(root), fault.message)]
    return relative(top, root) if top else "", []


def _tables(tree: Tree, below: Sequence[str], limits: Limits) -> tuple[list[Table], list[Trouble]]:
    found, troubles = stores.tables(tree.tables(), tree.root)
    for place in below:
        if "://" in place:
            tables, more = stores.tables_below(place, tree.root)
        else:
            folder = tree.root / place
            there = look(folder, limits)
            tables, more = stores.tables(there.tables(), tree.root)
            troubles += there.troubles
        found += [table for table in tables if table not in found]
        troubles += more
    return found, troubles


def _own_registry(tree: Tree) -> Source | None:
    """MLflow's database in the folder itself; a file store, which is refused, as the last."""
    top = tree.folders.get(tree.root)
    if top is None:
        return None
    databases = [name for name in top.files if name.endswith((".db", ".sqlite", ".sqlite3"))]
    for name in sorted(databases, key=lambda name: name != "mlflow.db"):
        if _is_registry(tree.root / name):
            return Source(f"sqlite:///{tree.root / name}", name)
    return Source((tree.root / "mlruns").as_uri(), "mlruns") if "mlruns" in top.folders else None


def _is_registry(file: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as database:
            query = "SELECT 1 FROM sqlite_master WHERE name = 'registered_models'"
            return database.execute(query).fetchone() is not None
    except sqlite3.Error:
        return False
