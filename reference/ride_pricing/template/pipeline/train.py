"""Train the demand model, log it, register it, and tag it with what it was trained on."""

import json
import os
from pathlib import Path
from typing import Any

# One thread sums in one order, so the same features always give the same model.
os.environ["OMP_NUM_THREADS"] = "1"

import mlflow
import numpy as np
import pandas as pd
import sklearn
import skops
import yaml
from mlflow.models import infer_signature
from sklearn.ensemble import HistGradientBoostingRegressor

from ebbtide.core.digests import tree_digest

FEATURES = Path("data/features")
NOT_INPUTS = ["zone", "hour", "rides"]
EXPERIMENT = "ride-demand"
REQUIREMENTS = [f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}"]
"""Given, because inferring them takes MLflow ten seconds."""
TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
"""What skops must load beyond its own list: the trees of this very model."""


def model(train: dict[str, Any]) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        loss="poisson",
        max_iter=train["iterations"],
        learning_rate=train["rate"],
        min_samples_leaf=train["leaf"],
        early_stopping=False,
        random_state=train["seed"],
    )


def validation_error(history: pd.DataFrame, train: dict[str, Any]) -> float:
    """Sum of absolute errors over the last week, held out, as a share of its rides."""
    last = history["hour"] > history["hour"].max() - pd.Timedelta(days=7)
    before, week = history[~last], history[last]
    fitted = model(train).fit(before.drop(columns=NOT_INPUTS), before["rides"])
    error = np.abs(fitted.predict(week.drop(columns=NOT_INPUTS)) - week["rides"])
    return float(error.sum() / week["rides"].sum())


def register(history: pd.DataFrame, train: dict[str, Any]) -> dict[str, Any]:
    """Fit on all of the history and register. Returns what trained.json says."""
    inputs = history.drop(columns=NOT_INPUTS)
    fitted = model(train).fit(inputs, history["rides"])
    error = validation_error(history, train)
    trained_on = tree_digest(FEATURES)
    with mlflow.start_run() as run:
        mlflow.log_params(train)
        mlflow.log_metric("validation_error", error)
        logged = mlflow.sklearn.log_model(
            fitted,
            name="model",
            signature=infer_signature(inputs, fitted.predict(inputs.head())),
            pip_requirements=REQUIREMENTS,
            skops_trusted_types=TRUSTED,
            registered_model_name=train["registered_model"],
        )
    version = str(logged.registered_model_version)
    tag = mlflow.MlflowClient().set_model_version_tag
    tag(train["registered_model"], version, "ebbtide.trained_on", trained_on)
    return {
        "version": version,
        "run": run.info.run_id,
        "trained_on": trained_on,
        "rows": len(history),
        "validation_error": error,
    }


if __name__ == "__main__":
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"))
    mlflow.set_experiment(EXPERIMENT)
    params = yaml.safe_load(Path("params.yaml").read_text())["train"]
    trained = register(pd.read_parquet(FEATURES / "history.parquet"), params)
    Path("data/trained.json").write_text(json.dumps(trained, indent=2) + "\n")
