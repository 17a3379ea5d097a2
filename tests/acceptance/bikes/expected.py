"""What a release must answer, worked out without ebbtide: MLflow, pandas and the formula."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from deltalake import DeltaTable

from tests.acceptance.bikes.traffic import Row
from tests.acceptance.bikes.workspace import MODEL, Version


def planned(folder: Path, version: Version, model: str, pool: Sequence[Row]) -> list[Any]:
    """The answers of a version's features, settings and table, with some model."""
    predictor = registered(folder, MODEL, model)
    coming = pd.read_parquet(version.aside / "features/coming.parquet").set_index("at")
    wanted = coming.loc[[row["at"] for row in pool]]
    rentals = np.maximum(
        predictor.predict(wanted[predictor.metadata.signature.inputs.input_names()]), 0
    )
    settings = yaml.safe_load((version.aside / "config/planning.yaml").read_text())
    table = DeltaTable(folder / "tables/crews", version=version.crews)
    crews = table.to_pandas().set_index("hour")["crews"]
    return [
        {
            "rentals": expected,
            "bikes": int(np.ceil(expected * settings["margin"] / settings["rentals_per_bike"])),
            "crews": int(crews[int(row["at"][11:13])]),
        }
        for row, expected in zip(pool, rentals.tolist(), strict=True)
    ]


def registered(folder: Path, name: str, version: str) -> Any:
    """A registered model, loaded from where the registry says that its files lie."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    source = client.get_model_version(name, version).source
    assert source
    model_id = source.removeprefix("models:/")
    return mlflow.pyfunc.load_model(client.get_logged_model(model_id).artifact_location)


def error(answers: Sequence[Any], happened: pd.DataFrame) -> float:
    """Sum of absolute errors as a share of the rentals that came."""
    off = np.abs(np.array([answer["rentals"] for answer in answers]) - happened["rentals"])
    return float(off.sum() / happened["rentals"].sum())
