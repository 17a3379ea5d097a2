"""How features and models can be made anew: the keys of a system file that pipelines tell.

Only what is seen for certain is written. Where a stage could be meant for several
things, or a figure's better direction cannot be told, the key stays commented out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.entrypoints.cli.init.asking import NONE, Asker

if TYPE_CHECKING:
    from ebbtide.adapters.discovery.places import Discovery
    from ebbtide.adapters.discovery.stages import StageSeen

Things = dict[str, dict[str, Any]]

_GATES = "configs/gates"
_HIGHER = ("accuracy", "auc", "f1", "precision", "recall", "r2", "score")
_LOWER = ("error", "loss", "mae", "mse", "rmse", "mape")
_BETTER = ("lower", "higher")


def add(layers: Mapping[str, Things], found: "Discovery", asker: Asker) -> None:
    """Add to the things of a system what its pipelines and its suites tell of them."""
    for keys in layers["features"].values():
        seen = _upstream(found, keys) + _training(found, keys)
        parts = {
            "tables": _tables(_upstream(found, keys), layers["data"], found),
            "environment": _environment(seen, found),
        }
        keys.update({part: told for part, told in parts.items() if told})
    for name, keys in (*layers["features"].items(), *layers["data"].items()):
        if (found.root / _GATES / f"{name}.yaml").is_file():
            keys["suite"] = name
    if len(layers["model"]) == 1 and len(layers["features"]) == 1:
        [features] = layers["features"].items()
        train = _train(features, found, asker)
        for keys in layers["model"].values() if train else ():
            keys["train"] = train


def _upstream(found: "Discovery", keys: Mapping[str, Any]) -> list["StageSeen"]:
    """The stages that make the features, with all that they need."""
    there = [stage for stage in found.stages if stage.repository == keys["repository"]]
    needed: list[str] = [keys["out"]]
    made: list[StageSeen] = []
    while needed:
        wanted = needed.pop()
        for stage in there:
            if stage not in made and any(_meet(out, wanted) for out in stage.outs):
                made.append(stage)
                needed += stage.deps
    return made


def _training(found: "Discovery", keys: Mapping[str, Any]) -> list["StageSeen"]:
    """The stages that read the features and tell the version that they registered."""
    return [
        stage
        for stage in found.stages
        if stage.repository == keys["repository"] and stage.results
        and any(_meet(dep, keys["out"]) for dep in stage.deps)
    ]  # fmt: skip


def _tables(seen: list["StageSeen"], data: Things, found: "Discovery") -> dict[str, str]:
    """Which parameter is named for a table, and is a version that the table has."""
    newest = {table.path: table.version for table in found.tables}
    told = {}
    for name, keys in data.items():
        last = keys["path"].rstrip("/").rpartition("/")[2]
        places = {
            place
            for stage in seen
            for place, value in stage.versions.items()
            if 0 <= value <= newest.get(keys["path"], -1) and _is_for(place, {name, last})
        }
        if len(places) == 1:
            told[name] = places.pop()
    return told


def _is_for(place: str, names: set[str]) -> bool:
    """`tables.orders`, `orders_version` and `orders.version` are for the table `orders`."""
    *above, last = place.rpartition(":")[2].split(".")
    said = {last, last.removesuffix("_version"), *(above[-1:] if last == "version" else ())}
    plain = {name.replace("_", "-") for name in names}
    return not plain.isdisjoint(each.replace("_", "-") for each in said)


def _environment(seen: list["StageSeen"], found: "Discovery") -> dict[str, str]:
    """The variables that name a table's folder, or the one that tables lie in."""
    tables = [found.root / table.path for table in found.tables if "://" not in table.path]
    folders = {folder for table in tables for folder in (table, table.parent)}
    return {
        name: _from_root(folder, found.root)
        for stage in seen
        for name, folder in stage.variables.items()
        if folder in folders
    }


def _from_root(folder: Path, root: Path) -> str:
    inside = folder.is_relative_to(root)
    return f"{{root}}/{folder.relative_to(root).as_posix()}" if inside else str(folder)


def _train(
    features: tuple[str, Mapping[str, Any]], found: "Discovery", asker: Asker
) -> dict[str, Any] | None:
    """The one stage that trains on the features; None where it, or its figure, is not certain."""
    name, keys = features
    stages = _training(found, keys)
    results = [(stage, *result) for stage in stages for result in stage.results.items()]
    if len(results) != 1:
        return None
    stage, result, figures = results[0]
    metric = _metric(figures, asker)
    better = _better(metric, asker) if metric else ""
    if not better:
        return None
    return {
        "stage": stage.name,
        "result": result,
        "features": name,
        "metric": metric,
        "better": better,
    }


def _metric(figures: tuple[str, ...], asker: Asker) -> str:
    if len(figures) < 2:
        return "".join(figures)
    question = f"Figure by which models are compared ({', '.join(figures)}, {NONE})"
    said = asker.one(question, NONE, "", [*figures, NONE])
    return "" if said == NONE else said


def _better(metric: str, asker: Asker) -> str:
    """`lower` or `higher`; empty where nobody knows."""
    words = metric.lower().replace("-", "_").split("_")
    ways = [way for way, known in zip(_BETTER, (_LOWER, _HIGHER), strict=True)
            if not set(known).isdisjoint(words)]  # fmt: skip
    if len(ways) == 1:
        return ways[0]
    said = asker.one(f"Is a lower or a higher {metric} better", NONE, "", [*_BETTER, NONE])
    return "" if said == NONE else said


def _meet(one: str, other: str) -> bool:
    """Whether one path is the other, or lies in it."""
    first, second = Path(one), Path(other)
    return first.is_relative_to(second) or second.is_relative_to(first)


def hints(layers: Mapping[str, Things]) -> list[str]:
    """What levels `features` and `data` lack, and how to give it."""
    told = []
    for name, keys in layers.get("features", {}).items():
        read = {table for table, thing in layers.get("data", {}).items()
                if thing["role"] == "training"} - set(keys.get("tables", ()))  # fmt: skip
        if read:
            told.append(
                f"No parameter was seen that says which version of {', '.join(sorted(read))} the "
                f"pipeline of features {name} reads. Where it reads them, let a parameter say so, "
                f"and name it in `layers.features.{name}.tables`: levels `features` and `data` and "
                "`ebbtide refresh` set it."
            )
    for name, keys in layers.get("model", {}).items():
        if layers.get("features") and "train" not in keys:
            told.append(
                f"No stage was seen for certain that trains model {name} and writes a JSON file "
                "with the `version` that it registered: level `data` only finds models then. Say "
                f"it in `layers.model.{name}.train`."
            )
    return told
