"""What a rollback ought to come to where its features and model are made again, made without it.

A clone, the pipeline's own programs one after another, a registry of its own:
neither DVC nor ebbtide has a part in it, so it can tell when they are wrong.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from reference.ride_pricing.commands import run
from reference.ride_pricing.workspace import (
    FEATURES,
    REGISTRY,
    Version,
    Workspace,
    set_parameters,
    start_registry,
)

_STAGES = ("extract", "features", "train")
_SETTINGS = ("config", "serving")


def make_by_hand(
    workspace: Workspace,
    name: str,
    *,
    pipeline: Version,
    settings: Version,
    tables: Mapping[str, int],
) -> Version:
    """One version's pipeline over these versions of the tables, with the rest of another.

    What it is made of is kept where that of built versions is, `aside(name)`; it is
    no version that could be released.
    """
    aside = workspace.aside(name)
    clone, uri = aside / "clone", f"sqlite:///{aside / REGISTRY}"
    run(
        "git",
        "clone",
        "--quiet",
        "--no-checkout",
        str(workspace.folder),
        str(clone),
        cwd=aside.parent,
    )
    run("git", "checkout", "--quiet", "--detach", pipeline.commit, cwd=clone)
    set_parameters(clone, {"tables": tables})
    start_registry(uri, aside / "artifacts")
    for stage in _STAGES:
        run(sys.executable, f"pipeline/{stage}.py", cwd=clone, env=_environment(workspace, uri))
    shutil.copytree(clone / FEATURES, aside / "features")
    _keep_settings(workspace.aside(settings.name), aside)
    trained = json.loads((clone / "data/trained.json").read_text())
    why = f"{settings.name} with {pipeline.name}'s pipeline over other tables"
    return Version(
        name, pipeline.commit, trained["version"], settings.prompt, why, trained["validation_error"]
    )


def _environment(workspace: Workspace, uri: str) -> Mapping[str, str]:
    tables = str(workspace.folder / "tables")
    return {"RIDE_PRICING_TABLES": tables, "MLFLOW_TRACKING_URI": uri}


def _keep_settings(source: Path, to: Path) -> None:
    for folder in _SETTINGS:
        shutil.copytree(source / folder, to / folder)
    shutil.copy(source / "prompt.txt", to)
