"""The things that a system file may name, layer by layer, with every key explained.

The docstring below a key is its description in the JSON schema that
`ebbtide schema` prints, so editors show it where the key is written.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from ebbtide.core.saga import BUILT_IN

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
ENTRY_NAME = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
_PARAMETER = r"^[^:/-][^:]*:[^:.\s][^:\s]*$"
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_BRANCH = r"^[A-Za-z0-9_][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*$"

Name = Annotated[str, Field(pattern=NAME)]
SuiteName = Annotated[str, Field(pattern=f"^$|{NAME}")]
EntryName = Annotated[str, Field(pattern=ENTRY_NAME)]
"""A name in an entry-point group: of a layer or a gate of the user's own."""


class Strict(BaseModel):
    """A part of the system file: unknown keys and wrong types are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Train(Strict):
    """How a pipeline trains a model, and how good a newly trained one must be."""

    stage: str
    """The stage of the features' pipeline that trains and registers a version.

    Addressed as for `dvc repro`.
    """
    result: str
    """The JSON file that the stage writes, relative to the repository: an object with `version`,
    the number that it registered, better also `run`, its MLflow run, and the metric by its name."""
    features: Name
    """The feature set that the model is trained on: one of `layers.features`."""
    metric: str
    """The name of the figure by which models are compared, in the result or among the run's
    metrics."""
    better: Literal["lower", "higher"] = "lower"
    """Which figure is the better one."""
    worse_by: Annotated[float, Field(ge=0)] = 0.05
    """How much worse a newly trained model may be than the one before, as a share of its figure."""
    within: Annotated[float, Field(gt=0)] = 3600.0
    """Seconds that training may take, with all that it needs made first."""


class ModelThing(Strict):
    """A model in MLflow's registry, pinned to a version and the hash of its files."""

    registered_model: str
    """Its name in the registry."""
    alias: str = "champion"
    """The alias that follows the route."""
    train: Train | None = None
    """How it is trained anew where no registered version has the lineage that is wanted.

    None: ebbtide only ever finds models, by the features that they say they were trained on."""


class Like(Strict):
    """How far features that were made again may be distributed from those before.

    A column differs where its distance is over the limit. Where that could be chance, because
    there are few rows, the gate is inconclusive: it goes on only where nothing differs.
    Times, lists and other nested values are not compared.
    """

    numbers: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Largest distance of a column of numbers: Kolmogorov and Smirnov's D, from 0 to 1."""
    shares: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Largest Jensen-Shannon distance, from 0 to 1, of the shares that a column's values have.

    Numbers are counted in bins that hold equal shares of both.
    """
    missing: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Largest difference in the share of values that are missing, NaN or infinite."""
    significance: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Share of differing columns that chance alone may have picked out (false discovery rate)."""
    columns: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}
    """Limits of single columns, in place of `numbers` and `shares`."""
    leave_out: list[str] = []
    """Columns that are not compared: keys, and what grows with time."""


class FeaturesThing(Strict):
    """Features that a DVC pipeline makes, pinned to a commit and their content."""

    repository: str = "."
    """The git + DVC repository, relative to `root`."""
    out: str
    """The folder of features that the pipeline makes, relative to the repository."""
    link: str
    """The symbolic link that follows the route, relative to `root`."""
    tables: dict[Name, Annotated[str, Field(pattern=_PARAMETER)]] = {}
    """Which parameter of the pipeline says which version of a table it reads.

    By table of the layer `data`: `orders: params.yaml:tables.orders`. Levels `features` and
    `data` and a refresh run the pipeline with other versions there.
    """
    environment: dict[Annotated[str, Field(pattern=_VARIABLE)], str] = {}
    """Environment variables for the pipeline's stages; `{root}` stands for the system's root.

    A pipeline runs in a checkout of its own: paths to tables that are relative to the
    repository lead nowhere there, so give the absolute ones here. `MLFLOW_TRACKING_URI` is
    given always.
    """
    within: Annotated[float, Field(gt=0)] = 21600.0
    """Seconds that a run of the pipeline may take; then it is ended and counts as failed."""
    suite: SuiteName = ""
    """The suite of expectations that features made again must meet: `configs/gates/<suite>.yaml`
    below `root`. Empty: none is asked."""
    like: Like | None = Like()
    """How far features made again may be distributed from those before; null: any distance.

    Only Parquet files can be compared: features of another kind are compared with nothing.
    """
    fresh_within: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which features are too old to go live again; none: never."""


class DataThing(Strict):
    """A Delta table, pinned to a version and a fingerprint of its rows."""

    path: str
    """The Delta table: a folder relative to `root`, or a URI."""
    role: Literal["training", "reference"]
    """A training table is lineage and stays where it is; a reference table is read by serving."""
    suite: SuiteName = ""
    """The suite of expectations that a version must meet before it is gone back to, or before
    features are made from it: `configs/gates/<suite>.yaml` below `root`. Empty: none is asked."""


class SettingsThing(Strict):
    """A folder that is versioned in git, pinned to a commit and its content."""

    repository: str = "."
    """The git repository, relative to `root`."""
    path: str
    """The folder that is versioned, relative to the repository."""
    link: str
    """The symbolic link that follows the route, relative to `root`."""


class PromptThing(Strict):
    """A prompt in MLflow's prompt registry, pinned to a version and the hash of its template."""

    prompt: str
    """Its name in the registry."""
    alias: str = "production"
    """The alias that follows the route."""


class InfraThing(SettingsThing):
    """Infrastructure settings of this host: a folder that is versioned in git."""

    kind: Literal["git"] = "git"
    """`git`: a folder behind a symbolic link. `gitops`: manifests that a cluster follows."""


class OutputThing(Strict):
    """A batch output: a Delta table that jobs write through `ebbtide.outputs`."""

    path: str
    """The Delta table: a folder relative to `root`, or a URI. The first write makes it."""
    rescore: Annotated[str, Field(pattern=r"^$|^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] = ""
    """`module:function` of an installed package that scores one partition anew: it is given an
    `ebbtide.outputs.Rescoring` and gives back rows. Empty: recalled partitions stay empty."""
    consumers: dict[Name, str] = {}
    """Who reads it, by a name of your own, with whom to tell when rows are recalled."""


class EffectTarget(Strict):
    """Where side effects of one kind are sent: with POST, the payload as JSON."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    """Answers 2xx for what it has taken, other 4xx for what it refuses for good; 408, 409, 425,
    429 and 5xx for what may be tried again. It must know an `Idempotency-Key` again."""
    headers: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")], str] = {}
    """Headers of your own. `${NAME}` stands for an environment variable of the dispatcher:
    secrets do not belong into this file."""
    timeout: Annotated[float, Field(gt=0, le=300)] = 5.0
    """Seconds for connecting and for each wait for an answer."""
    attempts: Annotated[int, Field(ge=1)] = 10
    """After so many attempts an effect has failed."""
    backoff: Annotated[float, Field(gt=0)] = 1.0
    """Seconds before the second attempt; twice as long before each that follows, at most 300."""


class EffectsPart(Strict):
    """What the system sets off in the world, through `ebbtide.effects`."""

    targets: dict[Name, EffectTarget] = {}
    """Where each kind of effect goes, such as `mail`, by a name of your own."""


class Health(Strict):
    """Where the serving platform tells which version it has arrived at."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    """Asked with GET until it reports the version that the manifests name."""
    file: str
    """The manifest whose key tells what is to be reported: one of `files`."""
    key: str
    """The dotted path of that key in the manifest, such as `image.tag`."""
    reports: str = ""
    """The dotted path of the version in the JSON that the URL answers; or `pattern`."""
    pattern: str = ""
    """A regular expression on the answer's text; its first group is the version."""
    within: Annotated[float, Field(gt=0)] = 120.0
    """Seconds until it must report the new version; else the move is taken back."""

    @model_validator(mode="after")
    def _one_way(self) -> "Health":
        if bool(self.reports) == bool(self.pattern):
            raise ValueError("give either `reports` or `pattern`")
        if self.pattern and not _groups(self.pattern):
            raise ValueError("`pattern` is no regular expression with a group")
        return self


class GitopsThing(Strict):
    """Manifests in a git repository that Argo CD, Flux or a script brings to a cluster."""

    kind: Literal["gitops"]
    """`git`: a folder behind a symbolic link. `gitops`: manifests that a cluster follows."""
    repository: str
    """What git clones: a path relative to `root`, or an https, http, ssh or file URL."""
    branch: Annotated[str, Field(pattern=_BRANCH)]
    """The branch that the cluster follows. Only new commits go there, never a forced push."""
    files: Annotated[dict[str, dict[str, str]], Field(min_length=1)]
    """The manifests that belong to the release, by path in the repository.

    Each with the keys that ebbtide writes, by dotted path: `image.tag: model/demand@version`
    puts there the version that the release pins. `{}`: the file is carried as it is.
    """
    health: Health | None = None
    """How to see that the cluster has arrived; none: a push is taken for the arrival."""

    @model_validator(mode="after")
    def _known_file(self) -> "GitopsThing":
        if self.health and self.health.file not in self.files:
            raise ValueError(f"`health.file` {self.health.file} is not one of `files`")
        return self


def _groups(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error:
        return 0


def _kind(thing: Any) -> str:
    """Which kind of infra thing is meant; `git` where nothing is said."""
    kind = thing.get("kind", "git") if isinstance(thing, dict) else getattr(thing, "kind", "git")
    return kind if kind in ("git", "gitops") else ""


AnyInfra = Annotated[
    Annotated[InfraThing, Tag("git")] | Annotated[GitopsThing, Tag("gitops")],
    Discriminator(
        _kind,
        custom_error_type="kind",
        custom_error_message="`kind` is `git` or `gitops`",
    ),
]


class Layers(BaseModel):
    """What the system is made of: any layer may be missing, or have several things.

    A key that is not here is a layer of your own: an adapter that an installed
    package has registered under the entry-point group `ebbtide.layers`.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, dict[Name, dict[str, Any]]] = Field(init=False)

    model: dict[Name, ModelThing] = {}
    """Models, by a name of your own."""
    features: dict[Name, FeaturesThing] = {}
    """Feature sets, by a name of your own."""
    data: dict[Name, DataThing] = {}
    """Tables, by a name of your own."""
    config: dict[Name, SettingsThing] = {}
    """Configurations, by a name of your own."""
    prompt: dict[Name, PromptThing] = {}
    """Prompts, by a name of your own."""
    infra: dict[Name, AnyInfra] = {}
    """Infrastructure settings, by a name of your own."""

    @model_validator(mode="after")
    def _named(self) -> "Layers":
        wrong = [name for name in self.own if not re.fullmatch(ENTRY_NAME, name)]
        if wrong:
            raise ValueError(f"`{wrong[0]}` is no name of a layer: lower case, digits, `_.-`")
        return self

    @model_validator(mode="after")
    def _trained_on_something(self) -> "Layers":
        for name, thing in self.model.items():
            if thing.train and thing.train.features not in self.features:
                raise ValueError(
                    f"`model.{name}.train.features`: there are no features {thing.train.features}"
                )
        return self

    @model_validator(mode="after")
    def _known_tables(self) -> "Layers":
        for name, thing in self.features.items():
            strange = sorted(set(thing.tables) - set(self.data))
            if strange:
                raise ValueError(f"features.{name}.tables: no table `{strange[0]}` in `data`")
        return self

    @property
    def own(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Layers that ebbtide does not know, in the order of the file, as they were written."""
        return dict(self.__pydantic_extra__ or {})


assert set(Layers.model_fields) == set(BUILT_IN), "the schema and the step table name one set"
