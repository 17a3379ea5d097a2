"""The journal lies outside all that it rolls back: else going back would take it along."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from ebbtide.adapters.system.file import SystemFile
from ebbtide.core.errors import BadConfiguration

_SQLITE = "sqlite:///"


def check_journal_place(file: SystemFile) -> None:
    """Refuse a journal inside what a rollback, DVC, MLflow or the cache may replace.

    Only a file can lie inside something: a journal in PostgreSQL is not looked
    at. Raises `BadConfiguration`.
    """
    journal = _sqlite(file.journal_url)
    if journal is None:
        return
    for what, place in _moved(file):
        for one, other in ((journal, place), (journal.resolve(), place.resolve())):
            if one == other or other in one.parents:
                raise BadConfiguration(
                    f"journal: {journal} lies inside {what} ({place}).",
                    remedy="Write `journal: sqlite:///...` with a place of its own, or a URL "
                    "of PostgreSQL.",
                )


def _moved(file: SystemFile) -> Iterator[tuple[str, Path]]:
    """What may be replaced, restored or swept, and where it lies on this host."""
    layers = file.layers
    yield "the cache", file.state_dir / "cache"
    for features in layers.features.values():
        repository = file.at(features.repository)
        yield "an output of DVC", repository / features.out
        yield "the features that are live", file.at(features.link)
        yield "DVC's own folder", repository / ".dvc"
        for out in _outs(repository):
            yield "an output of DVC", out
    tables = [thing.path for thing in layers.data.values()]
    for path in (*tables, *(output.path for output in file.outputs.values())):
        if "://" not in path:
            yield "a table", file.at(path)
    for linked in (*layers.config.values(), *layers.infra.values()):
        if hasattr(linked, "link"):
            yield "what is live", file.at(linked.link)
    if file.serving.log and "://" not in file.serving.log:
        yield "the log of predictions", file.at(file.serving.log)
    if file.mlflow:
        for uri in (file.mlflow.tracking_uri, file.mlflow.registry_uri):
            yield from (("MLflow's store", place) for place in _store(file, uri))


def _outs(repository: Path) -> Iterator[Path]:
    """Every output that DVC tracks by a lock or by a `.dvc` file beside it."""
    for lock in repository.glob("dvc.lock"):
        stages = (_parsed(lock).get("stages") or {}).values()
        for stage in stages:
            for out in stage.get("outs") or ():
                yield repository / str(out.get("path", ""))
    for tracked in (*repository.glob("*.dvc"), *repository.glob("*/*.dvc")):
        if tracked.is_file():
            yield tracked.with_suffix("")


def _parsed(lock: Path) -> dict[str, dict[str, dict[str, list[dict[str, str]]]]]:
    """A lock that cannot be read is the features adapter's to complain about."""
    try:
        # libyaml where it is: every command opens the journal, and a lock may have many lines.
        loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
        found = yaml.load(lock.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - both are safe
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _store(file: SystemFile, uri: str) -> Iterator[Path]:
    if not uri:
        return
    database = _sqlite(file.url(uri))
    if database is not None:
        yield database
        yield database.parent / "mlruns"
        yield database.parent / "mlartifacts"
    elif "://" not in uri:
        yield file.at(uri.removeprefix("file:"))
    elif uri.startswith("file://"):
        yield Path(uri.removeprefix("file://"))


def _sqlite(url: str) -> Path | None:
    """The file of a SQLite URL, made absolute by the system file; None: it is none."""
    if not url.startswith("sqlite"):
        return None
    path = url.partition("?")[0].partition(":///")[2]
    return Path(path) if path else None
