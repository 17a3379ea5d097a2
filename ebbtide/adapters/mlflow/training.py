"""Models for features that were made again: the version of exactly that lineage, else a new one.

A lineage is what the training stage makes a model of: its command, parameters
and code, and the content of the features. It is worked out from git and
dvc.lock, never from what somebody wrote into the registry, which only says
which version was tagged for it, and with which bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any

from ebbtide.adapters.dvc.results import Result
from ebbtide.adapters.dvc.stages import Stage
from ebbtide.adapters.mlflow.lineage import ARTIFACTS_TAG, LINEAGE_TAG, Lineages, number
from ebbtide.adapters.mlflow.pipelines import Pipelines
from ebbtide.adapters.mlflow.registry import Registry, absent_as_none, is_version
from ebbtide.adapters.system.things import ModelThing, Train
from ebbtide.core.crashpoints import reach
from ebbtide.core.digests import digest
from ebbtide.core.errors import GateNotPassed, NotRestorable, Refused, Unknown
from ebbtide.core.making import Tell
from ebbtide.core.quality import Quality
from ebbtide.core.release import Pin, Release

_CLOCKS_DIFFER = 300.0
"""Seconds by which the clocks of this host and MLflow's may differ."""
TRAINED_ON_TAG = "ebbtide.trained_on"
TRAINED_PIPELINE_TAG = "ebbtide.trained_pipeline"


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that is to be trained."""

    name: str
    model: str
    """The registered model."""
    train: Train
    commit: str
    stage: Stage
    within: Release
    """The release that it is for, its features made."""
    again: bool = False
    """Also where DVC has what the stage made of the same before."""


Trainer = Callable[[Asked, Tell], Mapping[str, Any]]
"""Runs the training stage aside and returns what its result says. Raises `GateNotPassed`."""


def untrained(asked: Asked, _tell: Tell) -> Mapping[str, Any]:
    """Where nobody has said how stages are run."""
    raise Refused(f"Model `{asked.name}` cannot be trained from here.")


class Training:
    """What `Models` needs for `Making`. `pin` pins a version of a model by its number."""

    def __init__(
        self,
        registry: Registry,
        things: Mapping[str, ModelThing],
        store: Path,
        pipelines: Pipelines,
        train: Trainer,
        pin: Callable[[str, str], Pin],
    ) -> None:
        self._registry, self._things, self._pin = registry, things, pin
        self._pipelines, self._train = pipelines, train
        self._lineages = Lineages(registry, store)

    def recipe(self, name: str, within: Release, ask: str = "") -> Pin:
        """See `Making.recipe`. A model stays where the features are those it was trained on."""
        thing, now = self._thing(name), within.pin("model", name)
        if now is not None and not ask and self._stays(thing, now, within):
            return now
        at = {"registered_model": thing.registered_model}
        if thing.train is None:
            return Pin(name, "", at)
        features = self._pipelines.features(thing.train, within)
        commit = self._commit(thing.train, now, within, ask)
        about = {"stage": thing.train.stage, "commit": commit, "features": features.digest}
        return Pin(name, "", at | about)

    def found(self, recipe: Pin, within: Release) -> Pin | None:
        """See `Making.found`: the newest version of exactly that lineage that is whole."""
        version, _ = self._look(recipe, within)
        return self._found(recipe, within, version) if version else None

    def make(self, recipe: Pin, within: Release, tell: Tell) -> Pin:
        """See `Making.make`. Where it was killed, the next run finds what that one registered,
        or registers another one; nothing is ever deleted."""

        def say(line: str) -> None:
            tell(f"model {recipe.name}: {line}")

        version, passed_over = self._look(recipe, within)
        for why in passed_over:
            say(f"passed over: {why}")
        if version:
            say(f"version {version} has exactly this lineage")
            return self._found(recipe, within, version)
        asked = self._asked(recipe, within)
        say(f"no version has exactly this lineage: training one at commit {asked.commit[:10]}")
        return self._registered(asked, say)

    def tag_lineage(self, pin: Pin, within: Release) -> str:
        """Say in the registry what a released version was made of; why not, or nothing.

        Only where dvc.lock of a commit says that the training stage made this very
        version of the very features that the release pins; without `train`, where the
        version itself says that it was trained on them. Idempotent.
        """
        thing = self._thing(pin.name)
        if thing.train is None:
            on = pin.at.get("trained_on", "")
            if on not in {each.digest for each in within.pins("features")}:
                return "nothing says that it was trained on these features"
            return self._record(pin, _of_features(on), {"features": on}, {})
        try:
            result, stage = self._made_by(thing.train, pin, within)
        except Refused as fault:
            return fault.message
        if result is None or stage is None:
            return f"no commit's dvc.lock says how version {pin.at['version']} was trained"
        if not self._pipelines.as_locked(thing.train, stage, within):
            return "it was trained on other features than the release's"
        of = _of_stage(thing.train, result.commit, stage, within)
        return self._record(pin, stage.ingredients, of, _metrics(thing.train, result.says))

    def quality(self, pin: Pin) -> Quality | None:
        """See `Measured`."""
        train = self._thing(pin.name).train
        if train is None:
            return None
        with self._registry.calls() as client:
            version = _version(client, pin.at["registered_model"], pin.at["version"])
            found = self._lineages.metric(client, version, train.metric) if version else None
        return Quality(train.metric, found, train.better, train.worse_by)

    def _thing(self, name: str) -> ModelThing:
        if name not in self._things:
            raise Unknown(f"No model `{name}`.", remedy=f"Known here: {', '.join(self._things)}.")
        return self._things[name]

    def _stays(self, thing: ModelThing, now: Pin, within: Release) -> bool:
        """Whether the features are those that a model was trained on.

        Where nothing says on which, and nothing says how to train, it stays: whether
        it fits them is for the gate on compatibility to say.
        """
        train = thing.train
        features = (self._pipelines.features(train, within),) if train else within.pins("features")
        if any(pin.unmade for pin in features):
            return False
        trained_on = now.at.get("trained_on", "")
        if trained_on:
            return not features or trained_on in {pin.digest for pin in features}
        if train is None:
            return True
        _, stage = self._made_by(train, now, within)
        return stage is not None and self._pipelines.as_locked(train, stage, within)

    def _commit(self, train: Train, now: Pin | None, within: Release, ask: str) -> str:
        """Whose training it is to be: that of the model that is there, if its pipeline stays."""
        if ask:
            return self._pipelines.repository(train).commit(ask)
        wanted = self._pipelines.features(train, within).at["commit"]
        result = self._made_by(train, now, within)[0] if now else None
        own = result.commit if result else ""
        return own if own and self._pipelines.same(train, own, wanted) else wanted

    def _made_by(
        self, train: Train, pin: Pin, within: Release
    ) -> tuple[Result, Stage] | tuple[None, None]:
        """The commit whose training stage says that it registered a version, and that stage.

        A stage that was changed without being run again says nothing of it.
        """
        run = pin.at.get("run_id", "")
        for result in self._pipelines.results(train):
            if str(result.says.get("version")) != pin.at["version"]:
                continue
            if str(result.says.get("run", run)) != run:
                continue  # of another registry, that counted from 1 as well
            try:
                stage = self._pipelines.stage(train, result.commit, within)
            except Refused:
                continue  # a pipeline that cannot be read any more
            if not stage.stale:
                return result, stage
        return None, None

    def _look(self, recipe: Pin, within: Release) -> tuple[str, list[str]]:
        """The version of the recipe's lineage, or none; and why others were passed over."""
        passed_over: list[str] = []
        with self._registry.calls() as client:
            for lineage in self._wanted(recipe, within):
                model = recipe.at["registered_model"]
                for version in self._lineages.versions(client, model, lineage):
                    fault = self._lineages.fault(client, version)
                    if not fault:
                        return str(version.version), passed_over
                    passed_over.append(fault)
        return "", passed_over

    def _found(self, recipe: Pin, within: Release, version: str) -> Pin:
        """The pin of that version; what its lineage proves is in it, also where no tag says so."""
        pin, train = self._pin(recipe.name, version), self._thing(recipe.name).train
        if train is None or pin.at.get("trained_on"):
            return pin
        features = self._pipelines.features(train, within)
        proved = {
            "trained_on": features.digest,
            "trained_pipeline": features.at.get("pipeline", ""),
        }
        return Pin(pin.name, pin.digest, {**pin.at, **proved})

    def _wanted(self, recipe: Pin, within: Release) -> list[str]:
        """The lineages that will do; none while features are still to be made."""
        train = self._thing(recipe.name).train
        if train is None:
            features = within.pins("features")
            unmade = any(pin.unmade for pin in features)
            return [] if unmade else [_of_features(pin.digest) for pin in features]
        stage = self._pipelines.stage(train, recipe.at["commit"], within)
        return [stage.ingredients] if self._pipelines.are_made(train, stage, within) else []

    def _asked(self, recipe: Pin, within: Release) -> Asked:
        thing = self._thing(recipe.name)
        if thing.train is None:
            raise GateNotPassed(
                f"No version of {thing.registered_model} was released that says it was trained "
                "on these features, and nothing says how to train one.",
                remedy=f"Give `layers.model.{recipe.name}.train` in the system file.",
            )
        commit = recipe.at["commit"]
        stage = self._pipelines.stage(thing.train, commit, within)
        if not self._pipelines.are_made(thing.train, stage, within):
            raise GateNotPassed(f"The features of model {recipe.name} are not made yet.")
        return Asked(recipe.name, thing.registered_model, thing.train, commit, stage, within)

    def _registered(self, asked: Asked, say: Tell) -> Pin:
        """What training registers. What DVC remembers of an earlier run may be gone by now."""
        began = time()
        for again in (False, True):
            says = self._train(replace(asked, again=again), say)
            reach("training.make/registered")
            number = str(says.get("version"))
            if not is_version(number):
                raise GateNotPassed(
                    f"The result of stage `{asked.train.stage}` names no version, but {number}.",
                    remedy=f"Let it write `version` into {asked.train.result}.",
                )
            fault = self._claim(asked, says, number, began)
            if not fault:
                return self._kept(asked, says, number)
            say(f"version {number} is not taken: {fault}")
        raise GateNotPassed(f"Stage `{asked.train.stage}` gave no model that can be taken: {fault}")

    def _claim(self, asked: Asked, says: Mapping[str, Any], number: str, began: float) -> str:
        """Why a version cannot be what the stage has just made or made before; empty: it can."""
        with self._registry.calls() as client:
            version = _version(client, asked.model, number)
            if version is None:
                return f"{asked.model} has no version {number}."
            tags = version.tags or {}
            if "run" in says and str(says["run"]) != version.run_id:
                return "it is of another run than the one that the result names."
            if "run" not in says and version.creation_timestamp / 1000 < began - _CLOCKS_DIFFER:
                return "it is older than this run, and the result names no run."
            if tags.get(LINEAGE_TAG, asked.stage.ingredients) != asked.stage.ingredients:
                return "another lineage was recorded of it."
            features = self._pipelines.features(asked.train, asked.within)
            if tags.get(TRAINED_ON_TAG, features.digest) != features.digest:
                return f"it says that it was trained on {tags[TRAINED_ON_TAG][:10]}."
            return self._lineages.fault(client, version) if ARTIFACTS_TAG in tags else ""

    def _kept(self, asked: Asked, says: Mapping[str, Any], number: str) -> Pin:
        """Pin it, and tag it with what it was made of: until then nobody finds it."""
        features = self._pipelines.features(asked.train, asked.within)
        tags = {TRAINED_ON_TAG: features.digest}
        if "pipeline" in features.at:
            tags[TRAINED_PIPELINE_TAG] = features.at["pipeline"]
        with self._registry.calls() as client:
            for key, value in tags.items():
                client.set_model_version_tag(asked.model, number, key, value)
        pin = self._pinned(asked, number)
        of = _of_stage(asked.train, asked.commit, asked.stage, asked.within)
        fault = self._record(pin, asked.stage.ingredients, of, _metrics(asked.train, says))
        if fault:
            raise GateNotPassed(f"Version {number} of {asked.model} cannot be taken: {fault}.")
        return pin

    def _pinned(self, asked: Asked, number: str) -> Pin:
        try:
            return self._pin(asked.name, number)
        except NotRestorable as fault:
            raise GateNotPassed(
                fault.message,
                remedy="Were they written below the checkout that the stage ran in? Create its "
                "MLflow experiment once, with an artifact location of its own.",
            ) from fault

    def _record(
        self, pin: Pin, lineage: str, of: Mapping[str, Any], metrics: Mapping[str, float]
    ) -> str:
        with self._registry.calls() as client:
            version = _version(client, pin.at["registered_model"], pin.at["version"])
            if version is None:
                return f"version {pin.at['version']} is gone"
            return self._lineages.record(client, version, lineage, of, pin.digest, metrics)


def _version(client: Any, model: str, number: str) -> Any:
    return absent_as_none(lambda: client.get_model_version(model, number))


def _of_features(content: str) -> str:
    """The lineage of a model of which nothing is known but what it was trained on."""
    return digest({"features": content})


def _of_stage(train: Train, commit: str, stage: Stage, within: Release) -> dict[str, Any]:
    """For people: what stands behind the digest."""
    features = {pin.name: pin.digest for pin in within.pins("features")}
    return {"stage": train.stage, "commit": commit, "features": features}


def _metrics(train: Train, says: Mapping[str, Any]) -> dict[str, float]:
    found = number(says.get(train.metric))
    return {} if found is None else {train.metric: found}
