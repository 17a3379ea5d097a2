"""The data and features of a release, looked at with what the system file asks of them.

What a pin holds never changes, so what was found of it once in this process
holds: a plan and the saga after it look once.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from ebbtide.adapters.system.file import DataThing, FeaturesThing
from ebbtide.core.errors import EbbtideError
from ebbtide.core.gates import Finding, Verdict, inconclusive, passed
from ebbtide.core.ports import Layer
from ebbtide.core.release import Pin

if TYPE_CHECKING:
    import pyarrow as pa

    from ebbtide.adapters.expectations.suites import Suite

GATES = "configs/gates"
"""Where suites lie, relative to `root`."""


class Examiner:
    """The `Contents` of Delta tables and of features in Parquet files."""

    def __init__(
        self,
        layers: Mapping[str, Layer],
        tables: Mapping[str, DataThing],
        features: Mapping[str, FeaturesThing],
        at: Callable[[str], Path],
    ) -> None:
        """`at` makes a path that is relative to `root` absolute."""
        self._layers = layers
        self._tables = dict(tables)
        self._features = dict(features)
        self._at = at
        self._known: dict[tuple[Any, ...], Finding] = {}

    def examine_table(self, pin: Pin) -> Finding:
        """By time travel, and only the columns that the suite names."""
        thing = self._tables.get(pin.name)
        if thing is None:
            return inconclusive(f"Nothing here is known of table `{pin.name}`.")

        def read(columns: Sequence[str] | None) -> "pa.Table":
            return cast(_Tables, self._layers["data"]).read(pin, columns)

        return self._examined(f"table {pin.name} {pin}", pin, thing.suite, lambda _suite: read)

    def examine_features(self, pin: Pin) -> Finding:
        thing = self._features.get(pin.name)
        if thing is None:
            return inconclusive(f"Nothing here is known of features `{pin.name}`.")

        def reader(suite: "Suite") -> "Callable[[Sequence[str] | None], pa.Table]":
            from ebbtide.adapters.statistics.parquet import read_files

            files = sorted(self._folder(pin).rglob(suite.files))
            return lambda columns: read_files(files, columns)

        return self._examined(f"features {pin.name} {pin}", pin, thing.suite, reader)

    def compare_features(self, pin: Pin, before: Pin) -> Finding:
        thing = self._features.get(pin.name)
        if thing is None:
            return inconclusive(f"Nothing here is known of features `{pin.name}`.")
        like = thing.like
        if like is None:
            return passed(f"the system file asks for no comparison of features {pin.name}")
        if pin.digest == before.digest:
            return passed(f"features {pin.name} are those from before, byte by byte")

        def compare() -> Finding:
            from ebbtide.adapters.statistics.likeness import compare_folders

            return compare_folders(self._folder(before), self._folder(pin), like)

        return self._once(("like", pin, before), f"features {pin.name} {pin}", compare)

    def fresh_within(self, name: str) -> float | None:
        thing = self._features.get(name)
        return thing.fresh_within if thing else None

    def _examined(
        self,
        what: str,
        pin: Pin,
        suite: str,
        reader: "Callable[[Suite], Callable[[Sequence[str] | None], pa.Table]]",
    ) -> Finding:
        if not suite:
            return passed(f"the system file names no suite for {what}")
        from ebbtide.adapters.expectations.suites import examine, read_suite

        def look() -> Finding:
            return examine(asked, reader(asked))

        try:
            asked = read_suite(self._at(f"{GATES}/{suite}.yaml"))
        except EbbtideError as fault:
            return Finding(Verdict.ERRORED, f"{what}: {fault.message}", remedy=fault.remedy)
        return self._once((asked.digest, pin), what, look)

    def _once(self, key: tuple[Any, ...], what: str, look: Callable[[], Finding]) -> Finding:
        """What was found, now or before; only what was really looked at is kept."""
        if key in self._known:
            return self._known[key]
        try:
            found = look()
        except EbbtideError as fault:
            return Finding(Verdict.ERRORED, f"{what}: {fault.message}", remedy=fault.remedy)
        except Exception as fault:  # noqa: BLE001 - whatever keeps it from looking, it has not passed
            return Finding(Verdict.ERRORED, f"{what}: {type(fault).__name__}: {fault}")
        found = Finding(found.verdict, f"{what}: {found.why}", found.measured, found.remedy)
        if found.verdict in (Verdict.PASSED, Verdict.FAILED):
            self._known[key] = found
        return found

    def _folder(self, pin: Pin) -> Path:
        """Where features are kept. Those of an older release may have to be kept again first."""
        layer = self._layers["features"]
        folder = cast(_Kept, layer).path(pin)
        if not folder.is_dir():
            layer.prepare(pin)
        return folder


class _Tables(Protocol):
    """What the adapter of layer `data` can, beside being a `Layer`."""

    def read(self, pin: Pin, columns: Sequence[str] | None = None) -> "pa.Table": ...


class _Kept(Protocol):
    """What the adapter of layer `features` can, beside being a `Layer`."""

    def path(self, pin: Pin) -> Path: ...
