"""The releases of a production, by names of the tests, and what the stores show of each."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import deltalake

from ebbtide.core.release import Release
from tests import stores
from tests.ride_pricing import Running


@dataclass
class Shipped:
    """v1, v2 and v3 as they were built, and others that are made of them."""

    system: Running
    _shows: dict[str, dict[str, Any]] = field(default_factory=dict)
    _releases: dict[str, Release] = field(default_factory=dict)

    def release(self, name: str) -> Release:
        return self._releases.get(name) or self.system.release(name)

    def shows(self, name: str) -> dict[str, Any]:
        """What the stores must show while a release serves; lineage goes its own ways."""
        if name not in self._shows:
            shows = self.system.as_it_was_at(name)
            self._shows[name] = {layer: shows[layer] for layer in shows if layer != "rides"}
        return self._shows[name]

    def again(self, name: str, other: str, golden: str) -> None:
        """A release like another, with its model under a number of its own.

        `golden`: the version whose answers are recorded as its own.
        """
        first = self.release(other)
        (old,) = first.pins("model")
        number = self.system.registered_again(old.at["version"])
        pin = self.system.world.layers["model"].pin("demand", number)
        self._adopt(name, first.with_pins("model", pin), other, golden, model=number)

    def flagged(self, name: str, number: int) -> None:
        """A release like v2, with a version of the layer of the user's own."""
        versions = self.system.root / "flags"
        versions.mkdir(exist_ok=True)
        text = f'{{"flag": {number}}}'
        (versions / f"{number}.json").write_text(text)
        pin = self.system.world.layers["flags"].pin("main", str(number))
        self._adopt(name, self.release("v2").with_pins("flags", pin), "v2", "v2", flags=text)

    def grown(self, name: str) -> tuple[list[str], list[str]]:
        """A release like v2 with a row more in a table of lineage; its files before and now."""
        rides = self.system.root / "tables/rides"
        before = stores.table(rides)
        deltalake.write_deltalake(rides, _one_more(self.system), mode="append")
        data, v2 = self.system.world.layers["data"], self.release("v2")
        others = (pin for pin in v2.pins("data") if pin.name != "rides")
        release = v2.with_pins("data", data.pin("rides", "1"), *others)
        self._adopt(name, release, "v2", "v2")
        return before, stores.table(rides)

    def made(self, name: str, release: str, shows: Mapping[str, Any]) -> None:
        """A release, by its id, that a journey made, which answers as v2 does."""
        self._shows[name] = {**shows, "route": release}
        self._answers_as("v2", release)

    def _adopt(self, name: str, release: Release, other: str, golden: str, **differs: str) -> None:
        recorded = self.system.built.recorded
        evidence, answers = recorded[other].evidence, recorded[golden].golden
        self.system.world.journal.add_release(release, evidence, answers)
        self._answers_as(other, release.id)
        self._releases[name] = release
        self._shows[name] = {**self.shows(other), "route": release.id, **differs}

    def _answers_as(self, other: str, release: str) -> None:
        """Riders may look for the file at this very moment: it appears whole or not at all."""
        expected = self.system.built.workspace.expected
        half = expected / f"{release}.half"
        shutil.copy(expected / f"{self.release(other).id}.json", half)
        half.replace(expected / f"{release}.json")


def _one_more(system: Running) -> Any:
    """A row that is there already, as a bad job may write it twice."""
    rides = deltalake.DeltaTable(system.root / "tables/rides")
    query = deltalake.QueryBuilder().register("rides", rides)
    return query.execute("SELECT * FROM rides LIMIT 1").read_all()
