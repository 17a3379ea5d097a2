"""The reference system for tests: built and promoted once, then a copy of all that for each test.

Only the registry's database knows where it lies; a copy is told its new place.
"""

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import deltalake
import pyarrow as pa
import yaml

from ebbtide.adapters.journal.store import open_journal
from ebbtide.adapters.system.file import SystemFile, find_system
from ebbtide.bootstrap import world_of
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Evidence, Golden, Release
from ebbtide.core.saga import Level, Saga, SagaState
from ebbtide.entrypoints.gateway.server import Gateway
from flows.order import carry_out
from reference.ride_pricing import workspace as workspaces
from reference.ride_pricing.answers import answers, write_expected
from reference.ride_pricing.traffic import Traffic
from reference.ride_pricing.workspace import PROMPT, SYSTEM, Version, Workspace
from tests import stores
from tests.integration.registry_store import fluent
from tests.measuring import others_unmeasured
from tests.once import made_once

_CHECKOUT = Path(__file__).parents[1]
_PROMOTED = "aside/promoted/journal.db"
_WITNESSED = "aside/witnessed.json"
_PLACES = (
    ("experiments", "artifact_location"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("runs", "artifact_uri"),
)
"""Where MLflow's database has absolute paths."""


@dataclass(frozen=True)
class Recorded:
    """A release with what the journal had of it."""

    release: Release
    evidence: Evidence
    golden: Golden
    zones: int
    """Version of the reference table that it pins."""


@dataclass(frozen=True)
class Built:
    """A workspace with v1, v2 and v3 recorded, which its journal has promoted in turn."""

    workspace: Workspace
    recorded: Mapping[str, Recorded]

    @property
    def promoted(self) -> Path:
        """The journal of a production in which v3 serves, as the workspace shows it."""
        return self.workspace.folder / _PROMOTED

    @property
    def witnessed(self) -> Mapping[str, list[str]]:
        """What the build `said`, and the files of the checkout that it `touched`."""
        told: Mapping[str, list[str]] = json.loads((self.workspace.folder / _WITNESSED).read_text())
        return told

    def copy(self, folder: Path) -> "Built":
        """All of it at another place, to be changed there."""
        return Built(_copied(self.workspace.folder, folder), self.recorded)


@dataclass
class Running:
    """One test's own production: journal, gateway, and the workspace below."""

    built: Built
    file: SystemFile
    world: World
    url: str = ""
    gateway: Gateway | None = None
    _thread: threading.Thread | None = field(default=None, repr=False)

    @property
    def root(self) -> Path:
        return self.built.workspace.folder

    @property
    def journal(self) -> Path:
        return Path(self.file.journal_url.removeprefix("sqlite:///"))

    def release(self, name: str) -> Release:
        return self.built.recorded[name].release

    def order(self, level: Level = Level.SYSTEM, **wishes: Any) -> Saga:
        return carry_out(self.world, Order(level, by="tester", **wishes))

    def promote(self, name: str) -> None:
        saga = self.order(Level.PROMOTION, to=self.release(name).id)
        assert saga.state is SagaState.COMPLETED, saga.why

    def shown(self) -> dict[str, object]:
        return stores.shown(self.root, self.journal)

    def as_it_was_at(self, name: str) -> dict[str, object]:
        recorded = self.built.recorded[name]
        return stores.of_version(self.root, name, recorded.release.id, recorded.zones)

    def riders(self, out: Path, patience: float = 0.0) -> Traffic:
        """`patience`: seconds within which the answers of a release that is new are known."""
        workspace = self.built.workspace
        return Traffic(
            self.url,
            questions=workspace.questions,
            expected=workspace.expected,
            out=out,
            patience=patience,
        )

    def registered_again(self, version: str) -> str:
        """The model of a version under a new number of its own, with its lineage."""
        client = self.built.workspace.registry()
        old = client.get_model_version("ride-demand", version)
        with fluent(self.built.workspace.tracking_uri):
            new = client.create_model_version(
                "ride-demand", str(old.source), old.run_id, tags=old.tags
            )
        return str(new.version)

    def start_gateway(self, *warm: str, name: str = "one") -> None:
        """Serve, and wait until versions are held warm, of which the first is live."""
        part = self.file.serving
        log = str(self.file.at(part.log))
        self.gateway = Gateway(
            self.world,
            handler=part.handler,
            log=log,
            host="127.0.0.1",
            port=0,
            name=name,
            drain=2,
            joint=part.independent_rows,
        )
        self.url = self.gateway.url
        self._thread = threading.Thread(target=self.gateway.run, name=f"gateway {name}")
        self._thread.start()
        wanted = [self.release(each).id for each in warm]
        deadline = monotonic() + 60
        while not any(
            ({*wanted} <= {*replica.loaded} and replica.release in wanted[:1]) or not wanted
            for replica in self.world.serving.replicas()
        ):
            assert monotonic() < deadline, f"the gateway did not report itself with {warm}"
            sleep(0.01)

    def stop_gateway(self) -> None:
        if self.gateway and self._thread:
            self.gateway.stop()
            self._thread.join(30)


def built_once(shared: Path) -> Built:
    """The one that whichever process comes first builds in a folder that others share.

    It is there to be copied: nothing may change it or be served from it.
    """
    workspace = workspaces.reopen(made_once(shared, build))
    return Built(workspace, _recorded(workspace))


def build(folder: Path) -> Built:
    """Build the versions, record them, v1 on the first zones, and promote each in turn."""
    said: list[str] = []
    before = _looks_of_the_checkout()
    workspace = workspaces.create(folder, progress=said.append)
    world = world_of(find_system(SYSTEM, workspace.system_file.parent))
    for name, make in (
        ("v1", workspace.build_v1),
        ("v2", workspace.build_v2),
        ("v3", workspace.build_v3_bad),
    ):
        if name == "v2":  # so that every layer differs between v1 and v2
            _more_drivers(folder / "tables/zones")
            (folder / "serving/limits.yaml").write_text("threads: 1\n")
        with others_unmeasured():  # in DVC and its stages runs nothing that is measured
            version = make()
        _record(workspace, world, version)
    world.journal.close()
    made = Built(workspace, _recorded(workspace))
    with running(made, made.promoted.parent) as system:
        system.start_gateway()
        for name in made.recorded:
            system.promote(name)
    touched = sorted(before ^ _looks_of_the_checkout())
    (folder / _WITNESSED).write_text(json.dumps({"said": said, "touched": touched}))
    return made


@contextmanager
def running(
    built: Built, own: Path, url: str = "", more: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Running]:
    """A production of its own over a workspace; v1, v2 and v3 are recorded, and none serves.

    Where there is a journal in its own folder, that production goes on. `url` is
    that of a journal elsewhere; `more` is what its system file has beside the
    workspace's, by part.
    """
    folder, journal = built.workspace.folder / "configs" / own.name, own / "journal.db"
    known = journal.exists()
    for each in (folder, own):
        each.mkdir(parents=True, exist_ok=True)
    text = built.workspace.system_file.read_text()
    text = text.replace("proved_after: 5", "proved_after: 0")
    if more:
        told = yaml.safe_load(text)
        merged = {part: {**told.get(part, {}), **things} for part, things in more.items()}
        text = yaml.safe_dump({**told, **merged}, sort_keys=False)
    (folder / f"{SYSTEM}.yaml").write_text(f"{text}\njournal: {url or f'sqlite:///{journal}'}\n")
    file = find_system(SYSTEM, folder)
    world = world_of(file)
    for one in () if known else built.recorded.values():
        world.journal.add_release(one.release, one.evidence, one.golden)
    system = Running(built, file, world)
    try:
        yield system
    finally:
        system.stop_gateway()
        world.serving.close()
        world.journal.close()


def _looks_of_the_checkout() -> set[str]:
    """Files of the reference system in the checkout, and whatever DVC or MLflow would leave."""
    made = {str(path) for path in _CHECKOUT.glob("*") if path.name in {"mlruns", ".dvc"}}
    kept = (
        path for path in (_CHECKOUT / "reference").rglob("*") if "__pycache__" not in path.parts
    )
    return made | {f"{path} {path.stat().st_size}" for path in kept if path.is_file()}


def _record(workspace: Workspace, world: World, version: Version) -> None:
    asks = {
        layer: dict.fromkeys(world.layers[layer].names, version.commit)
        for layer in ("features", "config", "infra")
    }
    asks |= {"model": {"demand": version.model}, "prompt": {PROMPT: version.prompt}}
    release = resolve(world, asks)
    record(world, release, by="tester", note=version.name)
    write_expected(answers(workspace, version), workspace.expected / f"{release.id}.json")


def _recorded(workspace: Workspace) -> Mapping[str, Recorded]:
    """By version, from the journal in which nothing was ever promoted."""
    found = {}
    with closing(open_journal(f"sqlite:///{workspace.folder / '.ebbtide/journal.db'}")) as journal:
        for release, evidence in journal.releases(SYSTEM):
            golden = journal.golden(release.id)
            assert golden
            zones = next(pin for pin in release.pins("data") if pin.name == "zones").at["version"]
            found[evidence.note] = Recorded(release, evidence, golden, int(zones))
    return {name: found[name] for name in workspace.versions}


def _copied(source: Path, folder: Path) -> Workspace:
    shutil.copytree(source, folder, symlinks=True)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        for table, column in _PLACES:
            database.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                (source.as_uri(), folder.as_uri()),
            )
    return workspaces.reopen(folder)


def _more_drivers(path: Path) -> None:
    """The reference table changes: another version, which later releases pin."""
    table = deltalake.DeltaTable(str(path))
    query = deltalake.QueryBuilder().register("zones", table).execute("SELECT * FROM zones")
    rows = pa.table(query.read_all())
    drivers = [each.as_py() for each in rows.column("drivers_day")]
    column = pa.array([count + 1 for count in drivers], rows.schema.field("drivers_day").type)
    changed = rows.set_column(rows.schema.get_field_index("drivers_day"), "drivers_day", column)
    deltalake.write_deltalake(table, changed, mode="overwrite")
