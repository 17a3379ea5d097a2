"""What a version ought to answer, worked out aside: the oracle of demo and tests.

Reads only what the workspace kept beside each version, by plain files and by
MLflow's and Delta's own clients. It uses nothing of ebbtide, so it can tell
when ebbtide is wrong.
"""

import importlib.util
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from reference.ride_pricing.oracle import key
from reference.ride_pricing.rides import Floats
from reference.ride_pricing.workspace import MODEL, PROMPT, REGISTRY, Version, Workspace


@dataclass(frozen=True, slots=True)
class Parts:
    """What a release's handler is loaded with, by the name of each thing."""

    models: Mapping[str, Any]
    features: Mapping[str, Path]
    tables: Mapping[str, Any]
    config: Mapping[str, Path]
    prompts: Mapping[str, str]
    infra: Mapping[str, Path]


@dataclass(frozen=True)
class Answers:
    """What one combination of versions answers for some rows, and what would be right."""

    rows: Sequence[Mapping[str, str]]
    given: Sequence[Mapping[str, Any]]
    """demand, surge, price and message for each row."""
    fair: Floats
    """The price of each row by the same configuration at the true demand."""
    truth: Floats
    """The true demand of each row, in rides per hour."""

    @property
    def demand_error(self) -> float:
        """Median absolute error of the demand, as a share of the true demand."""
        return float(np.median(np.abs(self.demand / self.truth - 1)))

    @property
    def demand_excess(self) -> float:
        """All the demand that was answered over all that is true, less 1."""
        return float(self.demand.sum() / self.truth.sum() - 1)

    @property
    def price_error(self) -> float:
        """Median absolute error of the price, as a share of the fair price."""
        return float(np.median(np.abs(self.price / self.fair - 1)))

    @property
    def demand(self) -> Floats:
        return np.array([each["demand"] for each in self.given])

    @property
    def price(self) -> Floats:
        return np.array([each["price"] for each in self.given])


def answers(
    workspace: Workspace,
    version: Version,
    *,
    model_of: Version | None = None,
    rows: Sequence[Mapping[str, str]] = (),
) -> Answers:
    """What a version answers; with `model_of`, what it answers with another's model put in.

    Without rows: for every zone and hour of the week that is priced.
    """
    import pandas as pd

    asked = list(rows) or workspace.city.questions()
    handler = load(workspace, version, model_of=model_of)
    frame = pd.DataFrame(asked)
    truth = workspace.city.true_demands(asked)
    fair = np.array([each["price"] for each in handler.price(frame, truth)])
    return Answers(asked, handler(frame), fair, truth)


def load(workspace: Workspace, version: Version, *, model_of: Version | None = None) -> Any:
    """A version's own serving code, loaded with what was kept of it.

    A version that was made by hand has its model in a registry of its own.
    """
    aside = workspace.aside(version.name)
    parts = Parts(
        models={"demand": _model(workspace, model_of or version)},
        features={"demand": aside / "features"},
        tables={"zones": _table(workspace.folder / "tables/zones")},
        config={"pricing": aside / "config"},
        prompts={PROMPT: (aside / "prompt.txt").read_text()},
        infra={"serving": aside / "serving"},
    )
    return _code(aside / "serving/handler.py").load(parts)


def write_expected(found: Answers, to: Path) -> None:
    """For the traffic client: each row's answer and fair price, under `zone|hour`.

    The file appears whole or not at all.
    """
    each = zip(found.rows, found.given, found.fair, strict=True)
    table = {key(row): {**given, "fair": float(fair)} for row, given, fair in each}
    to.parent.mkdir(parents=True, exist_ok=True)
    half = to.with_suffix(".half")
    half.write_text(json.dumps(table))
    half.replace(to)


def _code(path: Path) -> ModuleType:
    """A version's own code under a name of its own; no bytecode is left beside it."""
    spec = importlib.util.spec_from_file_location(f"aside_{abs(hash(path))}", path)
    if spec is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    exec(compile(path.read_text(), path, "exec"), module.__dict__)  # noqa: S102 - our own code
    return module


def _model(workspace: Workspace, version: Version) -> Any:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient, pyfunc

    own = workspace.aside(version.name) / REGISTRY
    registry = MlflowClient(f"sqlite:///{own}") if own.exists() else workspace.registry()
    folder = registry.get_model_version_download_uri(MODEL, version.model)
    return pyfunc.load_model(folder, suppress_warnings=True)


def _table(path: Path) -> Any:
    import pyarrow as pa
    from deltalake import DeltaTable, QueryBuilder

    query = QueryBuilder().register("found", DeltaTable(path))
    return pa.table(query.execute("SELECT * FROM found").read_all())
