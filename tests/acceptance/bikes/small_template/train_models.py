"""Train and register what is asked for: one JSON object in each argument.

`model` is the registered model's name, `target` the column that it learns,
`trees` how many it grows, `unit` how many rentals make one of its answers.
"""

import json
import sys
from typing import Any

import mlflow
import pandas as pd
import sklearn
from mlflow.models import infer_signature
from sklearn.ensemble import GradientBoostingRegressor

INPUTS = ["hour", "weekday", "workingday", "weather", "temp", "humidity"]


def register(counted: pd.DataFrame, model: str, target: str, trees: int, unit: float) -> Any:
    inputs = counted[INPUTS].astype("float64")
    fitted = GradientBoostingRegressor(n_estimators=trees, max_depth=4, random_state=3)
    fitted.fit(inputs, counted[target] / unit)
    return mlflow.sklearn.log_model(
        fitted,
        name=model,
        signature=infer_signature(inputs, fitted.predict(inputs.head())),
        pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
        serialization_format="cloudpickle",
        registered_model_name=model,
    )


if __name__ == "__main__":
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.set_experiment("bikes")
    rows = pd.read_csv("counted.csv")
    for line in sys.argv[1:]:
        register(rows, **json.loads(line))
