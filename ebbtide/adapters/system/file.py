"""The system file: YAML that describes one AI system, read strictly.

Unknown keys, wrong types, YAML tags, anchors and oversized files are refused
with the place and the remedy. `ebbtide.bootstrap` turns the result into a World.
"""

import os
import sys
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from ebbtide.adapters.system.own import check_layers
from ebbtide.adapters.system.plain_yaml import plain_yaml
from ebbtide.adapters.system.things import (
    NAME,
    DataThing,
    EffectsPart,
    EntryName,
    FeaturesThing,
    GitopsThing,
    Health,
    InfraThing,
    Layers,
    ModelThing,
    Name,
    OutputThing,
    PromptThing,
    SettingsThing,
    Strict,
)
from ebbtide.core.errors import BadConfiguration, Unknown
from ebbtide.core.retention import (
    LAST_PROVED,
    Rule,
)

__all__ = [
    "DataThing",
    "EffectsPart",
    "FeaturesThing",
    "GitopsThing",
    "Health",
    "InfraThing",
    "Layers",
    "ModelThing",
    "Name",
    "OutputThing",
    "PromptThing",
    "SettingsThing",
    "Strict",
    "SystemFile",
    "find_system",
    "plain_yaml",
    "read_system_file",
    "schema",
]


class MlflowEndpoint(Strict):
    """Where MLflow keeps runs, models and prompts."""

    tracking_uri: str
    """As for MLflow; a relative SQLite file starts from `root`."""
    registry_uri: str = ""
    """Empty: the same as `tracking_uri`."""


class ServingPart(Strict):
    """How the system answers requests: `ebbtide serve`, or a serving of your own."""

    host: str = "127.0.0.1"
    """The address that a gateway listens on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 5001
    """The port that a gateway listens on; 0: any free one."""
    handler: str = ""
    """`<layer>/<thing>/<file>`: the user's own code in a pinned content.

    Empty: the model alone answers, and requests carry its features.
    """
    independent_rows: bool = False
    """The serving code answers each row by itself, whatever rows are beside it.

    Requests that wait may then be asked in one call, which empties a line much sooner: after a
    switch nothing is cached. It must hold for every release that may be rolled back to.
    """
    replicas: Annotated[int, Field(ge=0)] = 1
    """Live replicas that a cut-over needs at least; 0: no gateway serves this system."""
    warm_within: Annotated[float, Field(gt=0)] = 120.0
    """Seconds in which every replica must have loaded the target, before anything is switched."""
    switch_within: Annotated[float, Field(gt=0)] = 15.0
    """Seconds in which every replica must serve the target, once the route is switched."""
    log: str = ""
    """Delta table for served predictions, relative to `root`; empty: none is kept."""


class CachePart(Strict):
    """Cached predictions. They belong to an epoch of the route, never to a release."""

    url: str = ""
    """`redis://...`; empty: on disk below `state`."""
    namespace: Annotated[str, Field(pattern=f"^$|{NAME}")] = ""
    """What every key begins with, after `ebbtide:`; empty: the system's name.

    Two systems that share a Redis must not share this.
    """
    ttl_seconds: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds after which a cached prediction goes by itself."""


class GoldenPart(Strict):
    """Fixed questions whose answers are recorded with each release."""

    questions: str = ""
    """A JSON Lines file of rows as a client sends them, relative to `root`."""
    smoke: str = ""
    """The same, a few rows that every release must answer."""
    tolerance: Annotated[float, Field(ge=0)] = 1e-6
    """Largest relative difference of a figure from the recorded answer."""


class GatesPart(Strict):
    """Gates of your own, by their names in the entry-point group `ebbtide.gates`.

    Each is a function `(world, move) -> Finding`. One that is missing or raises
    is not passed.
    """

    preflight: list[EntryName] = Field(default_factory=list)
    """Asked before anything is touched; one that is not passed refuses the move."""
    prove: list[EntryName] = Field(default_factory=list)
    """Asked after the cut-over; one that is not passed takes everything back."""


class RetentionPart(Strict):
    """Which releases stay restorable: those that any of these names. `ebbtide gc` gives up others.

    Also kept, whatever is written here: what serves, what an unfinished rollback needs, and
    what was quarantined in the last `days`.
    """

    proved: Annotated[int, Field(ge=LAST_PROVED)] = LAST_PROVED
    """The last so many releases that were proved; at least 5."""
    days: Annotated[float, Field(ge=0)] = 90.0
    """Those recorded in the last so many days."""
    cool_down_hours: Annotated[float, Field(ge=0)] = 72.0
    """Those that served in the last so many hours. As long after a promotion, `ebbtide refresh`
    also refreshes the release before."""

    @property
    def rule(self) -> Rule:
        return Rule(self.proved, self.days * 86400, self.cool_down_hours * 3600)


class WorkersPart(Strict):
    """What partitions are scored anew with, by the command and by the deployed flow."""

    kind: Literal["threads", "dask"] = "threads"
    """`threads` of the process that it is ordered in, or processes of a Dask cluster
    (`ebbtide[dask]`)."""
    count: Annotated[int, Field(ge=1)] = 4
    """How many at a time: threads, or the processes of a local cluster."""
    address: str = ""
    """A Dask scheduler, such as `tcp://host:8786`; empty: a local cluster for each run."""


class SystemFile(Strict):
    """One AI system: `configs/systems/<name>.yaml`."""

    system: Name
    """The system's name: that of this file."""
    root: str = "../.."
    """What relative paths start from, itself relative to the folder of this file."""
    state: str = ".ebbtide"
    """Where ebbtide keeps materialised contents, relative to `root`."""
    journal: str = ""
    """SQLAlchemy URL; empty: SQLite in `state`. Never inside what is rolled back."""
    mlflow: MlflowEndpoint | None = None
    """Needed by the layers `model` and `prompt`."""
    layers: Layers
    """What the system is made of."""
    serving: ServingPart = ServingPart()
    """How it answers requests."""
    cache: CachePart = CachePart()
    """Where predictions are cached."""
    golden: GoldenPart = GoldenPart()
    """How a release is asked whether it behaves as recorded."""
    gates: GatesPart = GatesPart()
    """Gates of your own, beside the built-in ones."""
    outputs: dict[Name, OutputThing] = Field(default_factory=dict)
    """What batch jobs write with its releases, by a name of your own."""
    effects: EffectsPart = EffectsPart()
    """What it sets off in the world: mails, price pushes, tickets."""
    retention: RetentionPart = RetentionPart()
    """How long it keeps releases that it can go back to."""
    workers: WorkersPart = WorkersPart()
    """Where recalled outputs are scored anew."""
    proved_after: Annotated[float, Field(ge=0)] = 3600.0
    """Seconds in production after which a release counts as proved good."""
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _whole(self) -> "SystemFile":
        if (self.layers.model or self.layers.prompt) and self.mlflow is None:
            raise ValueError("layers `model` and `prompt` need `mlflow: {tracking_uri: ...}`")
        if self.serving.handler and len(PurePosixPath(self.serving.handler).parts) < 3:
            raise ValueError("`serving.handler` is `<layer>/<thing>/<file>`")
        return self

    def at(self, path: str) -> Path:
        """A path of this file, made absolute. A link at its end is not followed."""
        return Path(os.path.normpath(self._folder / self.root / path))

    @property
    def cache_namespace(self) -> str:
        """What the cache's keys begin with."""
        return self.cache.namespace or self.system

    @property
    def state_dir(self) -> Path:
        return self.at(self.state)

    @property
    def journal_url(self) -> str:
        return self.url(self.journal) or f"sqlite:///{self.state_dir / 'journal.db'}"

    def url(self, url: str) -> str:
        """A URL with a relative SQLite file made absolute."""
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            return prefix + str(self.at(url.removeprefix(prefix)))
        return url


def read_system_file(path: Path) -> SystemFile:
    """Read and check a system file. Raises `BadConfiguration` that names every fault."""
    data = plain_yaml(path)
    if not isinstance(data, dict):
        raise BadConfiguration(f"{path} must be a mapping with the keys of a system file.")
    try:
        found = SystemFile.model_validate(data)
    except ValidationError as fault:
        faults = "\n".join(f"  {_place(error['loc'])}: {error['msg']}" for error in fault.errors())
        raise BadConfiguration(f"{path} is not a system file:\n{faults}") from fault
    check_layers(found.layers.own, Layers.model_fields)
    found._folder = path.parent.resolve()  # noqa: SLF001 - not a key of the file
    if found.system != path.stem:
        raise BadConfiguration(f"{path} describes `{found.system}`: name it {found.system}.yaml.")
    return found


def find_system(name: str, folder: Path) -> SystemFile:
    """The system of that name below a folder of system files. Raises `Unknown`."""
    path = folder / f"{name}.yaml"
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        there = f"Known here: {', '.join(known)}." if known else f"{folder} has no system files."
        raise Unknown(f"No system `{name}` in {folder}.", remedy=there)
    return read_system_file(path)


def schema() -> dict[str, Any]:
    """The JSON schema of a system file, for editors: every key with its explanation."""
    from ebbtide.adapters.system import things
    from ebbtide.adapters.system.explained import explained

    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **explained(SystemFile.model_json_schema(), SystemFile, (things, sys.modules[__name__])),
        "title": "ebbtide system file",
    }


def _place(where: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in where) or "the file"
