"""Registers the versions of the model that the gateway's benchmark serves.

Run in the folder that shall hold MLflow's database, with how many versions and
how many input columns.
"""

import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import sklearn
import skops
from mlflow.models import infer_signature
from sklearn.ensemble import HistGradientBoostingRegressor

_REQUIREMENTS = [f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}"]
_TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]


def register(versions: int, columns: int) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{Path('mlflow.db').resolve()}")
    mlflow.create_experiment("scores", artifact_location=Path("mlartifacts").resolve().as_uri())
    mlflow.set_experiment("scores")
    drawn = np.random.default_rng(5).uniform(0, 1000, (5000, columns))
    rows = pd.DataFrame(drawn, columns=[f"x{column}" for column in range(columns)])
    target = rows.sum(axis=1) + 50 * np.sin(rows["x0"] / 40)
    for version in range(1, versions + 1):
        model = HistGradientBoostingRegressor(max_iter=40 * version, random_state=1)
        model.fit(rows, target)
        with mlflow.start_run():
            mlflow.sklearn.log_model(
                model,
                name="model",
                signature=infer_signature(rows, model.predict(rows.head())),
                pip_requirements=_REQUIREMENTS,
                skops_trusted_types=_TRUSTED,
                registered_model_name="score",
            )


if __name__ == "__main__":
    register(int(sys.argv[1]), int(sys.argv[2]))
