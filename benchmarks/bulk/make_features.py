"""The feature stage: counts by group from a Delta table, and many files beside them."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from deltalake import DeltaTable, QueryBuilder

OUT = Path("data/features")

if __name__ == "__main__":
    params = yaml.safe_load(Path("params.yaml").read_text())
    table = DeltaTable(os.environ["BULK_TABLES"] + "/events", version=params["tables"]["events"])
    asked = (
        "SELECT kind, avg(amount) AS mean, count(*) AS rows FROM events GROUP BY kind ORDER BY kind"
    )
    found = pa.table(QueryBuilder().register("events", table).execute(asked).read_all())
    scaled = pa.compute.multiply(found.column("mean"), params["features"]["scale"])
    OUT.mkdir(parents=True)
    pq.write_table(found.set_column(1, "mean", scaled), OUT / "groups.parquet")
    rng = np.random.default_rng(params["features"]["seed"])
    for n in range(params["features"]["files"]):
        np.save(OUT / f"part-{n:05d}.npy", rng.bytes(params["features"]["bytes"]))
