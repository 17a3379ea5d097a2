"""What a command loads before it can answer: any of these modules costs a good part of a second."""

import os
import subprocess
import sys
from pathlib import Path

from tests.integration import discovery_places as places

HEAVY = """{
    "dvc", "great_expectations", "mlflow", "numpy", "pandas", "prefect", "pyarrow",
    "ebbtide.adapters.expectations.suites", "ebbtide.adapters.loading.release",
}"""
SYSTEM = """
system: shop
root: .
mlflow: {tracking_uri: sqlite:///mlflow.db}
layers:
  model: {demand: {registered_model: demand}}
  features: {demand: {out: data/features, link: live/features}}
  data: {rides: {path: tables/rides, role: training, suite: rides}}
"""


def loaded(code: str, folder: Path) -> str:
    """Which of the heavy modules a fresh interpreter has, once it has run that code."""
    run = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('loaded', {HEAVY} & set(sys.modules))"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.splitlines()[-1]


def test_status_loads_no_client_of_any_store(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(SYSTEM)
    code = """
import sys
from ebbtide.entrypoints.cli import main
sys.argv = ["ebbtide", "status", "shop", "--systems", "."]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert loaded(code, tmp_path) == "loaded set()"


def test_a_table_is_looked_at_without_arrow(tmp_path: Path) -> None:
    places.delta(tmp_path / "rides")
    code = """
from deltalake import DeltaTable
from ebbtide.adapters.delta.versions import fingerprint, rows
table = DeltaTable("rides")
assert rows(table) == 1 and fingerprint(table)
"""
    assert loaded(code, tmp_path) == "loaded set()"
