"""Training a model anew: the pipeline's own stage, run aside on exactly the kept features."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ebbtide.adapters.dvc.recipes import environment_of
from ebbtide.adapters.mlflow.pipelines import Pipelines
from ebbtide.adapters.mlflow.training import Asked
from ebbtide.core.digests import tree_digest
from ebbtide.core.errors import GateNotPassed
from ebbtide.core.making import Tell

RUN_TAG = "ebbtide.lineage"
"""What every MLflow run that the stage starts is tagged with: the lineage that it was run for."""
_LARGEST_RESULT = 1 << 20


class StageTrainer:
    """Runs training stages below `state`. `at` makes a path of the system file absolute."""

    def __init__(
        self,
        pipelines: Pipelines,
        state: Path,
        at: Callable[[str], Path],
        tracking_uri: str,
        registry_uri: str = "",
    ) -> None:
        self._pipelines, self._state, self._at = pipelines, state, at
        self._tracking_uri = tracking_uri
        self._registry = {"MLFLOW_REGISTRY_URI": registry_uri} if registry_uri else {}

    def __call__(self, asked: Asked, tell: Tell) -> Mapping[str, Any]:
        """What the stage's result says. The stage registers the model itself.

        The features are remade first, which DVC's cache makes cheap, and must be the
        kept ones to the byte: else the stage does not run. Raises `GateNotPassed`.
        """
        from ebbtide.adapters.dvc.aside import reproduced

        train = asked.train

        def look(folder: Path) -> None:
            self._refuse_others(asked, folder)

        with reproduced(
            self._pipelines.repository(train),
            asked.commit,
            stages=[train.stage],
            first=asked.stage.needs,
            look=look,
            again=asked.again,
            params=self._pipelines.params(train, asked.commit, asked.within),
            environment=self._surroundings(asked),
            state=self._state,
            tell=tell,
            within=train.within,
        ) as folder:
            return _result(folder, train.result)

    def _surroundings(self, asked: Asked) -> Mapping[str, str]:
        """MLflow's own way to tag the runs of a program that knows nothing of it."""
        context = json.dumps({RUN_TAG: asked.stage.ingredients})
        thing = self._pipelines.thing(asked.train)
        given = environment_of(thing, self._at, self._tracking_uri)
        return {**self._registry, **given, "MLFLOW_RUN_CONTEXT": context}

    def _refuse_others(self, asked: Asked, folder: Path) -> None:
        contents = self._pipelines.contents(asked.train, asked.within)
        for out in asked.stage.features:
            try:
                found = tree_digest(folder / out)
            except OSError as fault:
                raise GateNotPassed(f"The pipeline made no features `{out}`: {fault}.") from fault
            if found != contents[out]:
                raise GateNotPassed(
                    f"The pipeline at commit {asked.commit[:10]} makes other features `{out}` now "
                    f"({found[:10]}) than were kept ({contents[out][:10]}): nothing was trained.",
                    remedy="A pipeline that makes different features of the same data cannot be "
                    "trained on what was kept: give it a seed, or choose another commit.",
                )


def _result(folder: Path, name: str) -> Mapping[str, Any]:
    file = folder / name
    try:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise ValueError("it leads out of the repository")
        if file.stat().st_size > _LARGEST_RESULT:
            raise ValueError("it is larger than 1 MiB")
        says = json.loads(file.read_bytes())
    except (OSError, ValueError) as fault:
        raise GateNotPassed(f"The training's result `{name}` cannot be read: {fault}.") from fault
    if not isinstance(says, dict):
        raise GateNotPassed(f"The training's result `{name}` is no JSON object.")
    return says
