"""Features by the hour: the counted hours to train on, the coming week to plan."""

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import yaml
from deltalake import DeltaTable, QueryBuilder

TABLES = Path(os.environ.get("TABLES", "tables"))


def rentals(version: int) -> pd.DataFrame:
    """The table at a version, by time. Hours to come have no rentals."""
    table = DeltaTable(TABLES / "rentals", version=version)
    rows = QueryBuilder().register("found", table).execute("SELECT * FROM found ORDER BY at")
    return pa.table(rows.read_all()).to_pandas()


def features(frame: pd.DataFrame, before: int, degrees: float) -> pd.DataFrame:
    times = pd.to_datetime(frame["at"])
    made = frame.assign(hour=times.dt.hour, temp=frame["temp"] * degrees)
    if before:
        counted = pd.Series(frame["rentals"].to_numpy(), index=times)
        then = counted.reindex(times - pd.Timedelta(hours=before)).to_numpy()
        # The service is closed in the few hours that nobody counted.
        made["rentals_before"] = pd.Series(then, index=frame.index).fillna(0.0)
    numbers = made.columns.difference(["at"])
    return made.astype(dict.fromkeys(numbers, "float64"))


if __name__ == "__main__":
    params = yaml.safe_load(Path("params.yaml").read_text())
    made = features(rentals(params["rentals"]), **params["features"])
    out = Path("data/features")
    out.mkdir(parents=True, exist_ok=True)
    coming = made["rentals"].isna()
    made[~coming].to_parquet(out / "history.parquet", index=False)
    made[coming].drop(columns="rentals").to_parquet(out / "coming.parquet", index=False)
