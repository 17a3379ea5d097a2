"""The pipelines that models are trained by, read from git for the system file's things."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ebbtide.adapters.dvc.parameters import Params
from ebbtide.adapters.dvc.pipeline import read_pipeline
from ebbtide.adapters.dvc.recipes import apart, parameter
from ebbtide.adapters.dvc.results import Result, results
from ebbtide.adapters.dvc.stages import Known, Stage, read_stage
from ebbtide.adapters.git.repository import Repository
from ebbtide.adapters.system.things import FeaturesThing, Train
from ebbtide.core.errors import BadConfiguration, Refused, Unknown
from ebbtide.core.release import Pin, Release


class Pipelines:
    """`at` makes a path of the system file absolute."""

    def __init__(
        self,
        features: Mapping[str, FeaturesThing],
        at: Callable[[str], Path],
    ) -> None:
        self._features, self._at = features, at
        self._read: dict[tuple[object, ...], Stage] = {}

    def repository(self, train: Train) -> Repository:
        return Repository(self._at(self.thing(train).repository))

    def thing(self, train: Train) -> FeaturesThing:
        """The features that the model is trained on. Raises `BadConfiguration`."""
        if train.features not in self._features:
            raise BadConfiguration(
                f"There are no features `{train.features}` to train on.",
                remedy="Correct `train.features` in the system file.",
            )
        return self._features[train.features]

    def features(self, train: Train, within: Release) -> Pin:
        """What the release pins of them, made or not. Raises `Unknown`."""
        pin = within.pin("features", train.features)
        if pin is None:
            raise Unknown(f"Release {within.short} pins no features `{train.features}`.")
        return pin

    def params(self, train: Train, commit: str, within: Release) -> Params:
        """What a commit's pipeline runs with to make just what the release pins of them."""
        thing, pin = self.thing(train), self.features(train, within)
        pipeline = read_pipeline(self.repository(train), commit, thing.out, apart(thing))
        found: dict[str, dict[str, Any]] = {}
        for file, key, version in _places(thing, pin, "tables"):
            textual = isinstance(pipeline.values[file][key], str)
            found.setdefault(file, {})[key] = version if textual else int(version)
        return found

    def contents(self, train: Train, within: Release) -> Mapping[str, str]:
        """Digests of all features of that repository, by their folder; empty while unmade."""
        home = self.thing(train).repository
        return {
            PurePosixPath(thing.out).as_posix(): pin.digest
            for name, thing in self._features.items()
            if thing.repository == home and (pin := within.pin("features", name)) is not None
        }

    def stage(self, train: Train, commit: str, within: Release) -> Stage:
        """The training stage of a commit, over what a release pins of features.

        Raises `BadConfiguration` where it does not read the features that it shall.
        """
        contents, params = self.contents(train, within), self._data(train, within)
        key = (train.stage, commit, tuple(sorted(contents.items())), repr(params))
        if key not in self._read:
            known = Known(contents, params)
            self._read[key] = read_stage(self.repository(train), commit, train.stage, known)
        out = self.thing(train).out
        if PurePosixPath(out).as_posix() not in self._read[key].features:
            raise BadConfiguration(
                f"Stage `{train.stage}` at commit {commit[:10]} does not depend on `{out}`: "
                "what it trains has not these features.",
                remedy="Name it below `deps` of the stage, or correct `train` in the system file.",
            )
        return self._read[key]

    def are_made(self, train: Train, stage: Stage, within: Release) -> bool:
        """Whether all features that the stage reads are there: else it has no lineage yet."""
        contents = self.contents(train, within)
        return all(contents[path] for path in stage.features)

    def as_locked(self, train: Train, stage: Stage, within: Release) -> bool:
        """Whether dvc.lock of the stage's commit has the very features that a release pins."""
        home = self.thing(train).repository
        pinned = {
            PurePosixPath(thing.out).as_posix(): pin.at.get("md5", "")
            for name, thing in self._features.items()
            if thing.repository == home and (pin := within.pin("features", name)) is not None
        }
        return all(pinned[path] and pinned[path] == md5 for path, md5 in stage.features.items())

    def _data(self, train: Train, within: Release) -> Params:
        """The tables that are read, by the fingerprints of their rows in place of the versions."""
        thing, pin = self.thing(train), self.features(train, within)
        found: dict[str, dict[str, Any]] = {}
        for kind in ("tables", "fingerprints"):
            for file, key, value in _places(thing, pin, kind):
                found.setdefault(file, {})[key] = f"{kind} {value}"
        return found

    def results(self, train: Train) -> Iterator[Result]:
        """What the training stage's result said in each commit, newest first."""
        return results(self.repository(train), train.stage, train.result)

    def same(self, train: Train, one: str, other: str) -> bool:
        """Whether two commits make the features alike, whatever data they read.

        False where that cannot be read of both.
        """
        if one == other:
            return True
        repository, thing = self.repository(train), self.thing(train)
        try:
            made = [
                read_pipeline(repository, each, thing.out, apart(thing)) for each in (one, other)
            ]
        except Refused:
            return False
        return made[0].digest == made[1].digest


def _places(thing: FeaturesThing, pin: Pin, kind: str) -> Iterator[tuple[str, str, str]]:
    """Params file, dotted key and what a pin says of the table there, for each that it knows."""
    known = json.loads(pin.at.get(kind) or "{}")
    for table, place in thing.tables.items():
        if table in known:
            file, key = parameter(place)
            yield file, key, str(known[table])
