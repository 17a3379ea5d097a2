"""What features are to be made of, in words that a pin can hold."""

import json
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ebbtide.adapters.dvc.definition import Apart
from ebbtide.adapters.system.file import FeaturesThing
from ebbtide.core.digests import canonical, digest
from ebbtide.core.errors import Refused
from ebbtide.core.release import Pin, Release


def apart(thing: FeaturesThing) -> Apart:
    """The parameters that say of which data the features are made, by params file."""
    found: dict[str, list[str]] = {}
    for place in thing.tables.values():
        file, key = parameter(place)
        found.setdefault(file, []).append(key)
    return found


def environment_of(
    thing: FeaturesThing, at: Callable[[str], Path], tracking_uri: str
) -> dict[str, str]:
    """What the stages of a pipeline are given; `{root}` in a value is the system's root."""
    root = str(at("."))
    given = {name: value.replace("{root}", root) for name, value in thing.environment.items()}
    return {**({"MLFLOW_TRACKING_URI": tracking_uri} if tracking_uri else {}), **given}


def parameter(place: str) -> tuple[str, str]:
    """The params file and the dotted key of `params.yaml:tables.orders`."""
    file, _, key = place.rpartition(":")
    return posixpath.normpath(file), key


def versions_of(thing: FeaturesThing, values: Mapping[str, Any]) -> dict[str, str]:
    """The version of each table, out of the values of the parameters that say so."""
    places = {table: parameter(place) for table, place in thing.tables.items()}
    return {table: str(values[file][key]) for table, (file, key) in places.items()}


def commit_of(name: str, base: Pin | None) -> str:
    """The commit whose pipeline made a pin. Raises `Refused` where nothing says so."""
    commit = base.at.get("commit", "") if base else ""
    if not commit:
        raise Refused(
            f"Nothing says which commit's pipeline made the features `{name}`.",
            remedy="Name the commit that they are to be made by.",
        )
    return commit


def table_of(table: str, within: Release) -> Pin:
    """The version of a table that a release pins. Raises `Refused` where it pins none."""
    pin = within.pin("data", table)
    if pin is None or pin.unmade:
        raise Refused(
            f"The release pins no version of table `{table}`, which the features are made of.",
            remedy="Choose a release that has it.",
        )
    return pin


def key_of(recipe: Pin) -> str:
    """By what is made of what; not by the commit, for others may have the same pipeline."""
    parts = ("out", "pipeline", "inputs", "fingerprints")
    return digest({"name": recipe.name, **{part: recipe.at[part] for part in parts}})


def text(values: Mapping[str, str]) -> str:
    """A mapping as a pin's `at` holds it."""
    return canonical(values).decode()


def mapping(at: Mapping[str, str], key: str) -> dict[str, str]:
    """A mapping out of a pin's `at`; empty where it says nothing."""
    found = json.loads(at.get(key) or "{}")
    return found if isinstance(found, dict) else {}
