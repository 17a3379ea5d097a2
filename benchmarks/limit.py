"""The data-plane limit: a rollback's outside effects bare, each with its read-back.

No journal, no gates, no engine, no Prefect, and nothing of ebbtide's adapters:
what a hand-written loop over the same clients would take at best. It moves the
same things between the same two releases and hashes the same bytes once.
"""

import hashlib
import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.system import Production
from ebbtide.core.release import Pin, Release
from reference.ride_pricing.workspace import MODEL, PROMPT

_LINKS = {
    "features": ("features.repoint_link", "live/features"),
    "config": ("settings.publish_config", "live/config"),
    "infra": ("settings.publish_infra", "live/serving"),
}
"""By layer: the saga's step of the same effect, and the link."""


class Limit:
    """Moves everything that two releases differ in, with warm clients."""

    def __init__(self, made: Production, aside: Path) -> None:
        """`aside`: a new folder for a route and a cache that nothing else reads."""
        import diskcache

        self.took: dict[str, float] = {}
        """Seconds of each effect of the last move, by the saga's step of the same effect."""
        aside.mkdir()
        self._made, self._aside, self._links = made, aside, 0
        self._client = made.workspace.registry()
        self._cache = diskcache.Cache(str(aside / "cache"))
        self._route = sqlite3.connect(aside / "route.db", isolation_level=None)
        self._route.execute("PRAGMA journal_mode = WAL")
        self._route.execute("PRAGMA synchronous = FULL")
        self._route.execute("CREATE TABLE route (release TEXT, epoch INTEGER)")
        self._route.execute("INSERT INTO route VALUES ('', 0)")

    def close(self) -> None:
        self._route.close()
        self._cache.close()

    def move(self, source: Release, target: Release) -> None:
        """Raises `RuntimeError` where something is not what was written."""
        changed = {
            layer: [pin for pin in pins if pin != source.pin(layer, pin.name) and not pin.lineage]
            for layer, pins in target.layers.items()
        }
        with self._timed("writers.hold"):
            for pin in changed["data"]:
                self._fence(pin, "up")
        with self._timed("route.switch"):
            self._switch(target)
        with self._timed("data.restore_tables"):
            for pin in changed["data"]:
                self._restore(pin)
        for layer, (step, link) in _LINKS.items():
            with self._timed(step):
                for pin in changed[layer]:
                    self._swap(self._made.folder / link, self._kept(layer, pin))
        with self._timed("model.repoint_alias"):
            for pin in changed["model"]:
                self._hand_over(pin)
        with self._timed("prompt.repoint_prompt"):
            for pin in changed["prompt"]:
                self._hand_over_prompt(pin)
        with self._timed("cache.start_epoch"):
            self._set_token()
        with self._timed("left.keep_rows"):
            for pin in changed["data"]:
                self._keep(source.pin("data", pin.name))
        with self._timed("writers.release"):
            for pin in changed["data"]:
                self._fence(pin, "")

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = perf_counter()
        yield
        self.took[step] = perf_counter() - began

    def _switch(self, target: Release) -> None:
        self._route.execute("UPDATE route SET release = ?, epoch = epoch + 1", (target.id,))
        _require(self._route.execute("SELECT release FROM route").fetchone() == (target.id,))

    def _restore(self, pin: Pin) -> None:
        from deltalake import DeltaTable

        path = self._made.file.at(pin.at["path"])
        wanted = _content(DeltaTable(path, version=int(pin.at["version"])))
        _require(all((path / name).stat().st_size == size for name, size in wanted))
        DeltaTable(path).restore(int(pin.at["version"]))
        log = path / "_delta_log"
        _sync(max(log.glob("*.json")))
        _sync(log)
        _require(_content(DeltaTable(path)) == wanted)

    def _fence(self, pin: Pin, value: str) -> None:
        """A change of metadata, which Delta rejects every older append for."""
        from deltalake import DeltaTable

        path = self._made.file.at(pin.at["path"])
        fence = {"bare.fence": value}
        DeltaTable(path).alter.set_table_properties(fence, raise_if_not_exists=False)
        log = path / "_delta_log"
        _sync(max(log.glob("*.json")))
        _sync(log)
        _require(DeltaTable(path).metadata().configuration.get("bare.fence", "") == value)

    def _keep(self, pin: Pin | None) -> None:
        """Link what the table showed to where no vacuum reaches it."""
        from deltalake import DeltaTable

        if pin is None:
            return
        path = self._made.file.at(pin.at["path"])
        self._links += 1
        folder = self._aside / f"left-{self._links}"
        folder.mkdir()
        for name, size in _content(DeltaTable(path, version=int(pin.at["version"]))):
            (folder / Path(name).name).hardlink_to(path / name)
            _require((folder / Path(name).name).stat().st_size == size)
        _sync(folder)

    def _kept(self, layer: str, pin: Pin) -> Path:
        folder = self._made.world.layers[layer].path(pin)  # type: ignore[attr-defined]  # a folder
        return Path(folder)

    def _swap(self, link: Path, to: Path) -> None:
        before = _hashed(to)
        aside = link.with_name(f".{link.name}.next")
        aside.symlink_to(os.path.relpath(to, link.parent))
        aside.replace(link)
        _sync(link.parent)
        _require(_hashed(link.resolve()) == before)

    def _hand_over(self, pin: Pin) -> None:
        number = pin.at["version"]
        self._client.set_registered_model_alias(MODEL, "champion", number)
        found = self._client.get_model_version_by_alias(MODEL, "champion")
        _require(str(found.version) == number)
        place = self._client.get_model_version_download_uri(MODEL, number)
        _hashed(Path(str(place).removeprefix("file://")))

    def _hand_over_prompt(self, pin: Pin) -> None:
        number = int(pin.at["version"])
        self._client.set_prompt_alias(PROMPT, "production", number)
        found = self._client.get_prompt_version_by_alias(PROMPT, "production")
        _require(found is not None and int(found.version) == number)

    def _set_token(self) -> None:
        token = uuid.uuid4().hex
        self._cache.set("epoch", token)
        _require(self._cache.get("epoch") == token)


def _content(table: Any) -> list[tuple[str, int]]:
    actions = table.get_add_actions()
    names, sizes = actions.column("path").to_pylist(), actions.column("size_bytes").to_pylist()
    return sorted(zip(names, sizes, strict=True))


def _hashed(folder: Path) -> Mapping[str, str]:
    files = sorted(each for each in folder.rglob("*") if each.is_file())
    _require(bool(files))
    return {str(each): hashlib.sha256(each.read_bytes()).hexdigest() for each in files}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _require(held: bool) -> None:
    if not held:
        raise RuntimeError("An effect of the bare loop was not read back as it was written.")
