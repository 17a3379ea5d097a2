"""A real production to measure: ride pricing with two releases, its gateway and its riders."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from benchmarks.common import tell
from ebbtide.adapters.system.file import SystemFile, find_system
from ebbtide.bootstrap import world_of
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Saga, SagaState
from flows.order import carry_out
from reference.ride_pricing import workspace as workspaces
from reference.ride_pricing.answers import answers, write_expected
from reference.ride_pricing.commands import environment, run
from reference.ride_pricing.workspace import MODEL, PROMPT, SYSTEM, Version, Workspace

_WITHIN = 90.0
_BY = "benchmark"


@dataclass
class Production:
    """Recorded releases: `v1` and `v2` differ in every layer, `v2-model` from `v2` by its model."""

    workspace: Workspace
    file: SystemFile
    world: World
    versions: dict[str, Version]
    releases: dict[str, Release]

    @property
    def folder(self) -> Path:
        return self.workspace.folder

    @property
    def systems(self) -> Path:
        return self.workspace.system_file.parent

    @property
    def journal(self) -> Path:
        return Path(self.file.journal_url.removeprefix("sqlite:///"))

    @property
    def url(self) -> str:
        """Of the replica that reported last."""
        return self.world.serving.replicas()[0].url

    def promote(self, name: str) -> None:
        order = Order(Level.PROMOTION, by=_BY, to=self.releases[name].id)
        ended(carry_out(self.world, order))

    def live(self) -> str:
        """Which release the route names, by another reader than ebbtide."""
        with closing(sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)) as database:
            found = database.execute("SELECT release FROM routes").fetchone()
        return str(found[0]) if found else ""

    def lift_quarantine(self) -> None:
        """So that the next round may go back to what this round left.

        Behind the journal's back, in this benchmark's private journal: its
        records would not pass `ebbtide verify` any more, and nobody asks.
        """
        with closing(sqlite3.connect(self.journal, timeout=10)) as database, database:
            database.execute("DELETE FROM quarantine")


def ended(saga: Saga) -> Saga:
    if saga.state is not SagaState.COMPLETED:
        raise RuntimeError(f"The saga to {saga.target[:12]} ended {saga.state.value}: {saga.why}")
    return saga


@contextmanager
def production(*, with_model: bool = False) -> Iterator[Production]:
    """Built in a temporary folder (half a minute), served by no one yet.

    `with_model`: a third release, `v2` with its model trained anew.
    """
    with TemporaryDirectory(prefix="ebbtide-benchmark-") as folder:
        tell("building ride pricing: v1, then v2 with every layer changed")
        workspace = workspaces.create(Path(folder) / "workspace", progress=lambda _line: None)
        file = _patient(workspace)
        world = world_of(file)
        made = Production(workspace, file, world, {}, {})
        try:
            _ship(made, "v1", workspace.build_v1())
            _change_the_rest(workspace)
            _ship(made, "v2", workspace.build_v2())
            if with_model:
                tell("training another model on v2's features")
                _ship(made, "v2-model", _trained_anew(workspace, made.versions["v2"]))
            yield made
        finally:
            world.serving.close()
            world.journal.close()


@contextmanager
def gateway(made: Production, *, workers: int = 1) -> Iterator["subprocess.Popen[bytes]"]:
    """`ebbtide serve` as a process of its own, on a free port; until it has reported itself."""
    command = [sys.executable, "-m", "ebbtide", "serve", SYSTEM, "--port", "0"]
    more = ["--workers", str(workers)] if workers > 1 else []
    with program(
        [*command, *more, "--systems", str(made.systems)],
        cwd=made.folder,
        log=made.folder / "gateway.log",
        env={"OMP_NUM_THREADS": "1"},
    ) as process:
        until(lambda: len(made.world.serving.replicas()) >= workers, "the gateway", process)
        yield process


@contextmanager
def program(
    command: list[str], *, cwd: Path, log: Path, env: Mapping[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is ended at the end, by its own id."""
    with log.open("ab") as out, ExitStack() as stack:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        stack.callback(_end, process)
        yield process


def until(
    there: Callable[[], object], what: str, process: "subprocess.Popen[bytes] | None" = None
) -> None:
    deadline = time.monotonic() + _WITHIN
    while not there():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{what}: the process ended with {process.returncode}.")
        if time.monotonic() > deadline:
            raise RuntimeError(f"Waited {_WITHIN:g} s for {what} in vain.")
        time.sleep(0.01)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that we started, and those of its group: MLflow's server is a grandchild."""
    for number, patience in ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _change_the_rest(workspace: Workspace) -> None:
    """A reference table and the serving folder: the two that v2 would leave as they were."""
    import pyarrow as pa
    from deltalake import DeltaTable, QueryBuilder, write_deltalake

    table = DeltaTable(workspace.folder / "tables/zones")
    query = QueryBuilder().register("zones", table).execute("SELECT * FROM zones")
    rows = pa.table(query.read_all())
    at = rows.schema.get_field_index("drivers_day")
    more = [count.as_py() + 1 for count in rows.column(at)]
    changed = rows.set_column(at, rows.schema.field(at), pa.array(more, rows.schema.field(at).type))
    write_deltalake(table, changed, mode="overwrite")
    (workspace.folder / "serving/limits.yaml").write_text("threads: 1\n")


def _trained_anew(workspace: Workspace, of: Version) -> Version:
    """Another model on the same features, as somebody who tunes it registers it."""
    params, trained = workspace.folder / "params.yaml", workspace.folder / "data/trained.json"
    kept = params.read_text(), trained.read_text()
    changed = yaml.safe_load(kept[0])
    changed["train"]["iterations"] = 100
    params.write_text(yaml.safe_dump(changed))
    uri = {"MLFLOW_TRACKING_URI": workspace.tracking_uri}
    run(sys.executable, "pipeline/train.py", cwd=workspace.folder, env=uri)
    number = str(json.loads(trained.read_text())["version"])
    params.write_text(kept[0])
    trained.write_text(kept[1])
    client, tag = workspace.registry(), "ebbtide.trained_pipeline"
    pipeline = client.get_model_version(MODEL, of.model).tags[tag]
    client.set_model_version_tag(MODEL, number, tag, pipeline)
    return replace(of, model=number)


def _patient(workspace: Workspace) -> SystemFile:
    """The demo's system file, where a release counts as proved once its saga was."""
    text = workspace.system_file.read_text().replace("proved_after: 5", "proved_after: 0")
    workspace.system_file.write_text(text)
    return find_system(SYSTEM, workspace.system_file.parent)


def _ship(made: Production, name: str, version: Version) -> None:
    """Record it, and work its answers out aside while the tables are as it pins them."""
    world, workspace = made.world, made.workspace
    asks: dict[str, Mapping[str, str]] = {
        layer: dict.fromkeys(world.layers[layer].names, version.commit)
        for layer in ("features", "config", "infra")
    }
    asks |= {"model": {"demand": version.model}, "prompt": {PROMPT: version.prompt}}
    release = resolve(world, asks)
    record(world, release, by=_BY, note=name)
    made.versions[name], made.releases[name] = version, release
    whole = next(each for each in made.versions.values() if each.commit == version.commit)
    given = answers(workspace, whole, model_of=version)
    write_expected(given, workspace.expected / f"{release.id}.json")
