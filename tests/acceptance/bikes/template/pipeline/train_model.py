"""Train on the counted hours, register, and say what the model was trained on."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import sklearn
import yaml
from mlflow.models import infer_signature
from sklearn.ensemble import GradientBoostingRegressor

from ebbtide.core.digests import tree_digest

MODEL = "bike-demand"
FEATURES = Path("data/features")
WEEK = 7 * 24


def model(train: dict[str, Any]) -> GradientBoostingRegressor:
    return GradientBoostingRegressor(
        n_estimators=train["trees"], learning_rate=train["rate"], max_depth=4, random_state=3
    )


def held_out_error(inputs: pd.DataFrame, rentals: pd.Series, train: dict[str, Any]) -> float:
    """Sum of absolute errors over the last week, as a share of its rentals."""
    fitted = model(train).fit(inputs[:-WEEK], rentals[:-WEEK])
    off = np.abs(fitted.predict(inputs[-WEEK:]) - rentals[-WEEK:])
    return float(off.sum() / rentals[-WEEK:].sum())


if __name__ == "__main__":
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment(MODEL)
    train = yaml.safe_load(Path("params.yaml").read_text())["train"]
    history = pd.read_parquet(FEATURES / "history.parquet")
    inputs, rentals = history.drop(columns=["at", "rentals"]), history["rentals"]
    fitted = model(train).fit(inputs, rentals)
    logged = mlflow.sklearn.log_model(
        fitted,
        name="model",
        signature=infer_signature(inputs, fitted.predict(inputs.head())),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
        serialization_format="cloudpickle",  # ours alone, and twice as fast to load
        registered_model_name=MODEL,
    )
    version = str(logged.registered_model_version)
    mlflow.MlflowClient().set_model_version_tag(
        MODEL, version, "ebbtide.trained_on", tree_digest(FEATURES)
    )
    error = held_out_error(inputs, rentals, train)
    Path("data/trained.json").write_text(json.dumps({"version": version, "error": error}))
