"""Do a release's models fit the features that they would read?

Names and types agree far more often than meanings do: the published incident
had the same columns with other contents. So what a model was trained on
decides, and the signature can only refuse.
"""

import json
from collections.abc import Collection, Mapping

from ebbtide.core.gates import Finding, failed, inconclusive, passed, worst
from ebbtide.core.release import Pin, Release

_FAMILIES = {
    "integer": ("int", "long", "uint"),
    "figure": ("float", "double", "decimal", "half"),
    "text": ("str", "utf8", "object", "large_string", "dictionary"),
    "truth": ("bool",),
    "time": ("date", "timestamp", "time"),
}


def layers_fit(target: Release, served: Collection[Release]) -> Finding:
    """Whether each model of `target` fits its features.

    `served` are the releases that were proved in production: what was proved
    together once fits, whatever its lineage says.
    """
    models, features = target.pins("model"), target.pins("features")
    if not models or not features:
        return passed("No model and features to fit together.")
    if any(_same(target, other) for other in served):
        return passed("This model and these features were proved together in production.")
    return worst([_fits(model, features, target) for model in models])


def misfits(model: Pin, features: Pin, before: Pin | None) -> list[str]:
    """Columns of a model's signature that features have as another type, or have no more.

    `before` are features of the same name: a column that neither has is none of
    theirs, for requests bring some themselves.
    """
    wanted = columns(model.at.get("inputs", ""))
    there = columns(features.at.get("schema", ""))
    had = columns(before.at.get("schema", "")) if before else {}
    lost = [name for name in wanted if name in had and name not in there]
    return [*_clashes(model, features), *(f"{name} is gone from {features.name}" for name in lost)]


def _same(one: Release, other: Release) -> bool:
    return all(
        [pin.digest for pin in one.pins(layer)] == [pin.digest for pin in other.pins(layer)]
        for layer in ("model", "features")
    )


def _fits(model: Pin, features: Collection[Pin], target: Release) -> Finding:
    clashes = [clash for pin in features for clash in _clashes(model, pin)]
    if clashes:
        return failed(f"The signature of model {model.name} does not fit: {', '.join(clashes)}.")
    trained_on, pipeline = (
        model.at.get("trained_on", ""),
        model.at.get("trained_pipeline", ""),
    )
    if not trained_on:
        return inconclusive(
            f"Nothing says what features model {model.name} {model} was trained on.",
            remedy="Tag the model version with `ebbtide.trained_on`.",
        )
    if any(trained_on == pin.digest for pin in features):
        return passed(f"Model {model.name} was trained on these very features.")
    if pipeline and any(pipeline == pin.at.get("pipeline") for pin in features):
        return passed(f"Model {model.name} was trained on features of the same pipeline.")
    there = ", ".join(f"{pin.name} {pin.digest[:10]}" for pin in features)
    return failed(
        f"Model {model.name} {model} was trained on features {trained_on[:10]}, "
        f"and would read {there}; they were never proved together."
    )


def _clashes(model: Pin, features: Pin) -> list[str]:
    """Columns that both know, with types that cannot be the same thing."""
    wanted, there = (
        columns(model.at.get("inputs", "")),
        columns(features.at.get("schema", "")),
    )
    return [
        f"{name} is {there[name]} in {features.name}, {kind} in the signature"
        for name, kind in wanted.items()
        if name in there and not _castable(there[name], kind)
    ]


def columns(text: str) -> Mapping[str, str]:
    """Column types by name, from a pin's JSON: `[{"name": ..., "type": ...}, ...]`."""
    return {column["name"]: column["type"] for column in json.loads(text)} if text else {}


def _castable(found: str, wanted: str) -> bool:
    one, other = _family(found), _family(wanted)
    return one == other or (one, other) == ("integer", "figure")


def _family(kind: str) -> str:
    bare = kind.lower()
    return next(
        (
            family
            for family, starts in _FAMILIES.items()
            if any(bare.startswith(start) for start in starts)
        ),
        bare,
    )
