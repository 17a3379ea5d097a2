"""Targets that were never deployed together: what each level takes from where.

Level `model` takes earlier models, `features` an earlier pipeline, `data`
earlier tables; everything else is the base's. Where features or a model have
yet to be made, the target holds recipes in their place.
"""

from collections.abc import Mapping, Sequence

from ebbtide.core.deriving import with_derived
from ebbtide.core.errors import Refused, Unknown
from ebbtide.core.making import as_far_as_made, maker
from ebbtide.core.ports import Layer, World
from ebbtide.core.release import Pin, Release


def with_earlier_models(
    world: World, base: Release, versions: Mapping[str, str], earlier: Release | None
) -> Release:
    """The base with models of these registry versions; where none is named, `earlier`'s."""
    pins = _pins(world, "model", versions, earlier)
    if not pins:
        raise Refused(f"{world.system} has no model to put back.", remedy="Level `system` works.")
    return with_derived(world.layers, base.with_pins("model", *pins))


def with_earlier_features(
    world: World, base: Release, commits: Mapping[str, str], earlier: Release | None
) -> Release:
    """The base with features of these commits over the base's data, and models trained on them.

    Where no commit is named, features are made by the pipelines of `earlier`, and models
    trained as its models were: those themselves, where the features come out the same.
    """
    _layer(world, "features")
    _known(world, "features", commits)
    if not commits and earlier is not None:
        base = base.with_pins("features", *earlier.pins("features"))
        base = base.with_pins("model", *earlier.pins("model"))
    return _made_again(world, base, commits)


def with_earlier_data(
    world: World, base: Release, versions: Mapping[str, str], earlier: Release | None
) -> Release:
    """The base with tables at these versions, features built from them, models trained on those.

    Where no version is named, all tables as `earlier` pins them.
    """
    pins = _pins(world, "data", versions, earlier)
    if not pins:
        raise Refused(f"{world.system} has no table to put back.", remedy="Level `system` works.")
    target = base.with_pins("data", *pins)
    return _made_again(world, target, {}, learnt_from=_training(target) != _training(base))


def with_data_of_today(world: World, base: Release) -> Release:
    """The base with its own pipelines run over the tables as they are now; its models stay."""
    features = _layer(world, "features")
    data = world.layers.get("data")
    newest = tuple(data.pin(name) for name in data.names) if data else ()
    training = tuple(pin for pin in newest if pin.lineage)
    target = base.with_pins("data", *training) if training else base
    for name in features.names:
        target = target.with_pins("features", maker(world.layers, "features").recipe(name, target))
    return as_far_as_made(world.layers, target)


def _made_again(
    world: World, target: Release, commits: Mapping[str, str], *, learnt_from: bool = False
) -> Release:
    """The target with features and models made again wherever what they are made of changed.

    `learnt_from`: tables that models learn from have changed, whatever the features say.
    """
    before = target.pins("features")
    for name in _names(world, "features"):
        recipe = maker(world.layers, "features").recipe(name, target, commits.get(name, ""))
        target = target.with_pins("features", recipe)
    target = as_far_as_made(world.layers, target)
    if target.pins("features") == before and not learnt_from:
        return target  # a model may have been proved with features that it was not trained on
    for name in _names(world, "model"):
        recipe = maker(world.layers, "model").recipe(name, target)
        target = target.with_pins("model", recipe)
    return as_far_as_made(world.layers, target)


def _training(release: Release) -> tuple[Pin, ...]:
    return tuple(pin for pin in release.pins("data") if pin.lineage)


def _pins(
    world: World, layer: str, versions: Mapping[str, str], earlier: Release | None
) -> tuple[Pin, ...]:
    if not versions:
        return earlier.pins(layer) if earlier else ()
    adapter = _layer(world, layer)
    _known(world, layer, versions)
    return tuple(adapter.pin(name, version) for name, version in versions.items())


def _names(world: World, layer: str) -> Sequence[str]:
    return world.layers[layer].names if layer in world.layers else ()


def _layer(world: World, name: str) -> Layer:
    layer = world.layers.get(name)
    if layer is None:
        raise Refused(f"{world.system} has no layer `{name}`.")
    return layer


def _known(world: World, layer: str, asked: Mapping[str, str]) -> None:
    names = world.layers[layer].names
    strange = sorted(set(asked) - set(names))
    if strange:
        raise Unknown(
            f"{world.system} has no {layer} {', '.join(strange)}.",
            remedy=f"It has {', '.join(names)}.",
        )
