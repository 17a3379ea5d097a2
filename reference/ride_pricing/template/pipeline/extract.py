"""Read the tables as they were at the versions in params.yaml, by time travel."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from deltalake import DeltaTable, QueryBuilder

TABLES = Path(os.environ.get("RIDE_PRICING_TABLES", "tables"))
ORDER = {"rides": "slot, zone", "weather": "observed_at"}


def extract(name: str, version: int, to: Path) -> None:
    """Write one table, sorted, so that the same version always gives the same bytes."""
    table = DeltaTable(TABLES / name, version=version)
    query = f"SELECT * FROM found ORDER BY {ORDER[name]}"
    rows = QueryBuilder().register("found", table).execute(query).read_all()
    pq.write_table(pa.table(rows), to)


if __name__ == "__main__":
    Path("data").mkdir(exist_ok=True)
    for name, version in yaml.safe_load(Path("params.yaml").read_text())["tables"].items():
        extract(name, version, Path("data", f"{name}.parquet"))
