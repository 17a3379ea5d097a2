"""Systems with batch outputs, and another reader of the tables and the ledger."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest

from ebbtide import outputs
from ebbtide.adapters.delta.outputs import OutputTables
from ebbtide.adapters.journal import SqlJournal, open_journal
from ebbtide.adapters.system.things import OutputThing
from ebbtide.core.ports import World
from ebbtide.core.release import Evidence, Release
from tests.conftest import Fakes
from tests.integration.journal_fixtures import a_plan, a_release, opened

QUOTES = "quotes"
RESCORE = "tests.integration.outputs_fixtures:rescore"
FAILING = "tests.integration.outputs_fixtures:rescore_but_one"


@dataclass(frozen=True)
class Shop:
    """A fake system whose bad release serves, with a real table of outputs."""

    world: World
    good: Release
    bad: Release
    root: Path

    def write(self, partition: str, run: str, rows: Any = None, **more: Any) -> outputs.Part:
        given = rows if rows is not None else [{"id": n, "price": n / 2} for n in range(3)]
        return outputs.write(self.world, QUOTES, partition, given, run=run, **more)

    def seen(self, consumer: str = "mailer", **wishes: Any) -> list[dict[str, Any]]:
        """What a reader of the view is given."""
        found = outputs.read(self.world, QUOTES, consumer=consumer, **wishes).read_all()
        return list(found.to_pylist())

    def partitions(self) -> set[str]:
        return {row["_partition"] for row in self.seen()}

    def table(self) -> dict[str, list[tuple[str, bool, int]]]:
        return in_the_table(self.root / QUOTES)

    def ledger(self, columns: str = "partition, run, recall <> '', marked") -> list[Any]:
        return in_the_ledger(self.root / "journal.db", columns)


@pytest.fixture
def shop(fakes: Fakes, tmp_path: Path) -> Shop:
    thing = OutputThing(path=QUOTES, rescore=RESCORE, consumers={"ledger-team": "desk 4"})
    tables = OutputTables({QUOTES: thing}, lambda path: tmp_path / path)
    world = replace(fakes.world, outputs=tables)
    return Shop(world, fakes.good, fakes.bad, tmp_path)


@dataclass(frozen=True)
class Filed:
    """A system of a system file: its journal says that `bad` serves, then `good`."""

    name: str
    folder: Path
    root: Path
    journal: SqlJournal
    bad: Release
    good: Release

    def write(self, partition: str, run: str, release: Release) -> outputs.Part:
        from ebbtide.bootstrap import open_world

        rows = [{"id": n, "price": 1.0 + n} for n in range(4)]
        world = open_world(self.name, self.folder)
        return outputs.write(world, QUOTES, partition, rows, run=run, release=release.id)

    def table(self) -> dict[str, list[tuple[str, bool, int]]]:
        return in_the_table(self.root / QUOTES)

    def ledger(self, columns: str = "partition, run, recall <> '', marked") -> list[Any]:
        return in_the_ledger(self.root / ".ebbtide/journal.db", columns)


@pytest.fixture
def filed(tmp_path: Path) -> Iterator[Filed]:
    """To be changed by `with_workers` where another task runner is wanted."""
    root = tmp_path / "filed"
    folder = root / "configs/systems"
    folder.mkdir(parents=True)
    text = {
        "system": "shop",
        "layers": {},
        "outputs": {
            QUOTES: {
                "path": QUOTES,
                "rescore": RESCORE,
                "consumers": {"mailer": "desk 7", "ledger-team": "desk 4"},
            }
        },
    }
    (folder / "shop.yaml").write_text(json.dumps(text))
    journal = open_journal(f"sqlite:///{root / '.ebbtide/journal.db'}")
    bad, good = a_release("7", "shop"), a_release("6", "shop")
    for release in (bad, good):
        journal.add_release(release, Evidence("ada", 0.0), None)
        serve(journal, release)
    yield Filed("shop", folder, root, journal, bad, good)
    journal.close()


def with_file(filed: Filed, **keys: Any) -> None:
    """Change top-level keys of the system file."""
    path = filed.folder / "shop.yaml"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def serve(journal: SqlJournal, release: Release) -> None:
    saga, lease = opened(journal, release)
    plan = a_plan(journal, release)
    journal.switch_route(lease, expected=plan.epoch, to=release.id, token=f"token-{saga.id}")
    from ebbtide.core.saga import SagaState

    journal.close_saga(lease, SagaState.COMPLETED)


def rescore(job: outputs.Rescoring) -> list[dict[str, Any]]:
    """What a system's own function does: here every price is that of the good release."""
    version = job.release.pins("model")[0].at["version"]
    worker = _dask_worker()
    return [{"id": n, "price": float(version), "worker": worker} for n in range(4)]


def _dask_worker() -> str:
    """Of which worker of a Dask cluster this is the process; empty: of none."""
    if "distributed" not in sys.modules:
        return ""
    from distributed import get_worker

    try:
        return str(get_worker().address)
    except ValueError:
        return ""


def rescore_but_one(job: outputs.Rescoring) -> list[dict[str, Any]]:
    if job.partition == "d1":
        raise RuntimeError("no inputs for d1")
    return rescore(job)


def in_the_table(folder: Path) -> dict[str, list[tuple[str, bool, int]]]:
    """By partition: run, mark and rows of each file, from the log and the files themselves."""
    files: dict[str, dict[str, str]] = {}
    for entry in sorted((folder / "_delta_log").glob("*.json")):
        for line in entry.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                files[action["add"]["path"]] = action["add"]["partitionValues"]
            if "remove" in action:
                files.pop(action["remove"]["path"], None)
    found: dict[str, list[tuple[str, bool, int]]] = {}
    for path, by in files.items():
        rows = pq.ParquetFile(folder / unquote(path)).metadata.num_rows
        found.setdefault(by["_partition"], []).append((by["_run"], by["_valid"] == "true", rows))
    return found


def commits(folder: Path) -> int:
    return len(list((folder / "_delta_log").glob("*.json")))


def in_the_ledger(journal: Path, columns: str) -> list[Any]:
    query = f"SELECT {columns} FROM output_parts ORDER BY partition, run"
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()
