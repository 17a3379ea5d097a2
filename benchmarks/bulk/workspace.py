"""Builds the bulk system: a repository, a registry and a table, with releases of both revisions."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import yaml

from benchmarks.common import tell
from benchmarks.system import ended
from ebbtide.adapters.system.file import SystemFile, find_system
from ebbtide.bootstrap import world_of
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Release
from ebbtide.core.saga import Level
from flows.order import carry_out

if TYPE_CHECKING:
    from deltalake import DeltaTable

HERE = Path(__file__).parent
SYSTEM = "bulk"
_DVC = {
    "stages": {
        "features": {
            "cmd": f"{sys.executable} make_features.py",
            "deps": ["make_features.py"],
            "params": ["tables", "features"],
            "outs": ["data/features"],
        },
        "train": {
            "cmd": f"{sys.executable} train_model.py",
            "deps": ["train_model.py", "data/features"],
            "outs": ["data/trained.json"],
        },
    }
}
_FILE: dict[str, Any] = {
    "system": SYSTEM,
    "root": "../..",
    "mlflow": {"tracking_uri": "sqlite:///mlflow.db"},
    "proved_after": 0,
    "serving": {"replicas": 0},
    "layers": {
        "model": {
            "bulk": {
                "registered_model": "bulk",
                "train": {
                    "stage": "train",
                    "result": "data/trained.json",
                    "features": "groups",
                    "metric": "error",
                },
            }
        },
        "features": {
            "groups": {
                "out": "data/features",
                "link": "live/features",
                "tables": {"events": "params.yaml:tables.events"},
                "environment": {"BULK_TABLES": "{root}/tables"},
            }
        },
        "data": {"events": {"path": "tables/events", "role": "training"}},
        "config": {"answers": {"path": "config", "link": "live/config"}},
    },
}


@dataclass
class Bulk:
    """The built system. `releases` by name, `commits` by the same."""

    folder: Path
    file: SystemFile
    world: World
    releases: dict[str, Release] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)

    def write(
        self,
        rows: int,
        files: int,
        *,
        mode: Literal["append", "overwrite"] = "append",
        amount: float = 1.0,
    ) -> None:
        """Add rows to the table, as one commit of so many files."""
        import numpy as np
        import pyarrow as pa
        from deltalake import write_deltalake

        rng = np.random.default_rng(7)
        each = rows // files

        def batches() -> Iterator[pa.RecordBatch]:
            for n in range(files):
                yield pa.record_batch(
                    {
                        "part": pa.array([n] * each, pa.int32()),
                        "kind": pa.array(rng.integers(0, 50, each), pa.int32()),
                        "amount": pa.array(rng.normal(10 * amount, 2, each)),
                    }
                )

        schema = pa.schema([("part", pa.int32()), ("kind", pa.int32()), ("amount", pa.float64())])
        reader = pa.RecordBatchReader.from_batches(schema, batches())
        place = self.folder / "tables/events"
        write_deltalake(place, reader, mode=mode, partition_by=["part"])

    def commit(self, name: str, *, config: str, **params: Any) -> None:
        """Run the pipeline with these parameters, and commit what it made."""
        (self.folder / "config/answers.yaml").write_text(f"greeting: {config}\n")
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))
        uri = {"MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}"}
        tables = {"BULK_TABLES": str(self.folder / "tables")}
        self.run(sys.executable, "-m", "dvc", "repro", "--quiet", env={**uri, **tables})
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", name)
        self.commits[name] = self.run("git", "rev-parse", "HEAD")

    def release(self, name: str) -> Release:
        """Record what is there now, and make it live."""
        found = resolve(self.world, {})
        record(self.world, found, by="benchmark", note=name)
        self.releases[name] = found
        ended(carry_out(self.world, Order(Level.PROMOTION, by="benchmark", to=found.id)))
        return found

    def table(self) -> "DeltaTable":
        from deltalake import DeltaTable

        return DeltaTable(self.folder / "tables/events")

    def models(self) -> int:
        """How many versions the registry has, by another reader than ebbtide."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as database:
            found = database.execute("SELECT count(*) FROM model_versions").fetchone()
        return int(found[0])

    def lift_quarantine(self) -> None:
        """Behind the journal's back, so that the next round may go back to the same release."""
        place = self.folder / ".ebbtide/journal.db"
        with closing(sqlite3.connect(place, timeout=10)) as journal, journal:
            journal.execute("DELETE FROM quarantine")

    def run(self, *words: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        given = {**os.environ, "DVC_NO_ANALYTICS": "1", **(env or {})}
        done = subprocess.run(
            words, cwd=cwd or self.folder, env=given, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


@contextmanager
def bulk(
    rows: int, row_files: int, files: int, size: int, *, poisoned: bool = False
) -> Iterator[Bulk]:
    """A table of `rows` in `row_files`, features of `files` with `size` bytes each.

    Two releases were promoted: `good`, and `bad`, whose pipeline and configuration
    differ. `poisoned`: its pipeline is the same, but its table has wrong rows as well.
    """
    with TemporaryDirectory(prefix="ebbtide-benchmark-") as place:
        made = _empty(Path(place) / "workspace")
        tell(f"building: {rows:,} rows in {row_files:,} files, {files:,} feature files")
        try:
            made.write(rows, row_files, mode="overwrite")
            features = {"files": files, "bytes": size, "seed": 1, "scale": 1.0}
            made.commit("good", config="hello", tables={"events": 0}, features=features)
            made.release("good")
            if poisoned:
                made.write(rows // 20, max(1, row_files // 20), amount=9.0)
            else:
                features |= {"seed": 2, "scale": 1.02}
            made.commit("bad", config="hi", tables={"events": int(poisoned)}, features=features)
            made.release("bad")
            yield made
        finally:
            made.world.serving.close()
            made.world.journal.close()


def _empty(folder: Path) -> Bulk:
    for name in ("config", "configs/systems", "live"):
        (folder / name).mkdir(parents=True)
    for name in ("make_features.py", "train_model.py"):
        shutil.copy(HERE / name, folder)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(_DVC))
    (folder / "configs/systems" / f"{SYSTEM}.yaml").write_text(yaml.safe_dump(_FILE))
    (folder / ".gitignore").write_text("/mlflow.db*\n/mlruns/\n/tables/\n/live/\n/.ebbtide/\n")
    file = find_system(SYSTEM, folder / "configs/systems")
    made = Bulk(folder, file, world_of(file))
    made.run("git", "init", "--quiet", "--initial-branch", "main")
    for key, value in {"user.name": "bulk", "user.email": "bulk@example.invalid"}.items():
        made.run("git", "config", "--local", key, value)
    made.run(sys.executable, "-m", "dvc", "init", "--quiet")
    made.run(sys.executable, "-m", "dvc", "config", "cache.type", "hardlink,copy")
    return made
