"""A release in memory: all that answers a request, and nothing that can change.

The user's own serving code lies in a pinned content, `<layer>/<thing>/<file>`,
and defines `load(parts) -> answer`, where `answer` takes a pandas DataFrame and
gives one prediction for each row. Without such code the single model answers.
"""

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ebbtide.adapters.loading.isolation import forget_pinned, import_pinned, own_code
from ebbtide.adapters.loading.jsonable import Unsound, plain
from ebbtide.core.errors import BadConfiguration, EbbtideError, NotRestorable
from ebbtide.core.ports import Layer
from ebbtide.core.release import Pin, Release

if TYPE_CHECKING:
    import pyarrow

_FOLDERS = ("features", "config", "infra")


class BadQuestion(EbbtideError):
    """The rows cannot be asked of this release."""


class BadAnswer(EbbtideError):
    """The release did not give one sound answer for each row."""


@runtime_checkable
class Foldered(Protocol):
    """A layer whose contents are folders on this machine."""

    def path(self, pin: Pin) -> Path:
        """The pin's content, verified, in a folder that nobody changes."""


@runtime_checkable
class Tabular(Protocol):
    """A layer whose contents are tables."""

    def read(self, pin: Pin) -> "pyarrow.Table": ...


@runtime_checkable
class Worded(Protocol):
    """A layer whose contents are texts."""

    def template(self, pin: Pin) -> str | list[dict[str, Any]]:
        """The text, or the messages of a chat."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a release is made of, as the user's serving code is given it."""

    models: Mapping[str, Any] = field(default_factory=dict)
    """MLflow pyfunc models."""
    features: Mapping[str, Path] = field(default_factory=dict)
    tables: Mapping[str, "pyarrow.Table"] = field(default_factory=dict)
    """Reference tables; training tables are lineage and are not loaded."""
    config: Mapping[str, Path] = field(default_factory=dict)
    prompts: Mapping[str, str | list[dict[str, Any]]] = field(default_factory=dict)
    infra: Mapping[str, Path] = field(default_factory=dict)
    others: Mapping[str, Mapping[str, Path]] = field(default_factory=dict)
    """Layers that ebbtide does not know by name, where their adapter has folders."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class LoadedRelease:
    """One release, ready to answer. Answers may be asked from several threads."""

    release_id: str
    versions: Mapping[str, str]
    """What each layer is at, in a few words, by layer."""
    predict: Callable[[Any, Mapping[str, Any] | None], Any]
    schema: Any = None
    """The MLflow schema that requests are read by; None: as they come."""

    def answer(self, rows: Any, params: Mapping[str, Any] | None = None) -> list[Any]:
        """One JSON-clean prediction for each row.

        `rows` are records as a client sends them, or what MLflow's scoring
        protocol makes of a request (a DataFrame, an array, arrays by name).
        Raises `BadQuestion`, `BadAnswer`, and what the user's code raises.
        """
        asked = self._frame(rows) if _are_records(rows) else rows
        given = self.predict(asked, params)
        try:
            answers = plain(given)
        except Unsound as fault:
            raise BadAnswer(f"Release {self.release_id[:12]} answered {fault}.") from fault
        return self._one_for_each(answers, _length(asked))

    def _frame(self, rows: Sequence[Any]) -> Any:
        from mlflow.utils.proto_json_utils import dataframe_from_parsed_json

        return dataframe_from_parsed_json(list(rows), "records", self.schema)  # type: ignore[no-untyped-call]  # MLflow has no types here

    def _one_for_each(self, answers: Any, asked: int | None) -> list[Any]:
        who = f"Release {self.release_id[:12]}"
        if not isinstance(answers, list):
            raise BadAnswer(f"{who} answered one {type(answers).__name__} for all rows.")
        if asked is not None and len(answers) != asked:
            raise BadAnswer(f"{who} gave {len(answers)} answers to {asked} rows.")
        if any(answer is None for answer in answers):
            raise BadAnswer(f"{who} gave no answer to row {answers.index(None)}.")
        return answers


def load(release: Release, layers: Mapping[str, Layer], handler: str) -> LoadedRelease:
    """Load every layer of a release into this process.

    Raises `NotRestorable` with the reason where anything of it cannot be had,
    whatever the user's code or a model's own code raises.
    """
    try:
        parts = _parts(release, layers)
        schema, predict = _handled(release, layers, handler, parts) if handler else _alone(parts)
    except EbbtideError:
        raise
    except (Exception, SystemExit) as fault:
        raise NotRestorable(
            f"Release {release.short} cannot be loaded: {type(fault).__name__}: {fault}",
            remedy="The log of the process that loads it has the traceback.",
        ) from fault
    return LoadedRelease(release.id, _versions(release), predict, schema)


def _parts(release: Release, layers: Mapping[str, Layer]) -> Parts:
    folders = {layer: _folders(release, layers, layer) for layer in _FOLDERS}
    known = {*_FOLDERS, "model", "data", "prompt"}
    return Parts(
        models=_of(release, layers, "model", Foldered, lambda at, pin: _model(at.path(pin))),
        tables=_of(
            release,
            layers,
            "data",
            Tabular,
            lambda at, pin: at.read(pin),
            _is_reference,
        ),
        prompts=_of(release, layers, "prompt", Worded, lambda at, pin: at.template(pin)),
        others=MappingProxyType(
            {
                layer: _folders(release, layers, layer)
                for layer in release.layers
                if layer not in known and isinstance(layers.get(layer), Foldered)
            }
        ),
        **folders,
    )


def _folders(release: Release, layers: Mapping[str, Layer], layer: str) -> Mapping[str, Path]:
    return _of(release, layers, layer, Foldered, lambda at, pin: at.path(pin))


def _of(
    release: Release,
    layers: Mapping[str, Layer],
    layer: str,
    kind: type[Any],
    read: Callable[[Any, Pin], Any],
    wanted: Callable[[Pin], bool] = lambda _pin: True,
) -> Mapping[str, Any]:
    """A layer's things by name, each made ready here first: a replica may be on another host."""
    pins = [pin for pin in release.pins(layer) if wanted(pin)]
    if not pins:
        return MappingProxyType({})
    adapter = layers.get(layer)
    if not isinstance(adapter, kind):
        raise BadConfiguration(
            f"Release {release.short} pins the layer `{layer}`, which cannot be loaded here.",
            remedy=f"Name `{layer}` in the system file, with an adapter that serving knows.",
        )
    for pin in pins:
        adapter.prepare(pin)
    return MappingProxyType({pin.name: read(adapter, pin) for pin in pins})


def _is_reference(pin: Pin) -> bool:
    return pin.at.get("role") == "reference"


def _model(folder: Path) -> Any:
    with own_code(folder):
        import mlflow.pyfunc

        return mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)


Predict = Callable[[Any, Mapping[str, Any] | None], Any]


def _alone(parts: Parts) -> tuple[Any, Predict]:
    if len(parts.models) != 1:
        raise BadConfiguration(
            f"{len(parts.models)} models, and no serving code that says which one answers.",
            remedy="Name it in the system file: `serving: {handler: <layer>/<thing>/<file>}`.",
        )
    (model,) = parts.models.values()

    def predict(rows: Any, params: Mapping[str, Any] | None) -> Any:
        return model.predict(rows, params=dict(params)) if params else model.predict(rows)

    return model.metadata.get_input_schema(), predict


def _handled(
    release: Release, layers: Mapping[str, Layer], handler: str, parts: Parts
) -> tuple[Any, Predict]:
    layer, thing, *rest = PurePosixPath(handler).parts
    pin, adapter = release.pin(layer, thing), layers.get(layer)
    if pin is None or not isinstance(adapter, Foldered):
        raise BadConfiguration(
            f"Release {release.short} has no {layer}/{thing} to take `{handler}` from.",
            remedy="`serving.handler` is `<layer>/<thing>/<file>`, of a layer that is a folder.",
        )
    module = import_pinned(adapter.path(pin), PurePosixPath(*rest), pin.digest)
    make = getattr(module, "load", None)
    if not callable(make):
        raise NotRestorable(f"{handler} of release {release.short} defines no `load(parts)`.")
    answer = make(parts)
    if not callable(answer):
        raise NotRestorable(f"`load` in {handler} gave a {type(answer).__name__}, no function.")

    def predict(rows: Any, params: Mapping[str, Any] | None) -> Any:
        if params:
            raise BadQuestion("This system's serving code takes no `params`.")
        given = answer(_as_frame(rows))
        return given.to_list() if hasattr(given, "to_list") else given

    weakref.finalize(predict, forget_pinned, module.__name__).atexit = False
    return None, predict


def _as_frame(rows: Any) -> Any:
    import pandas as pd

    if isinstance(rows, pd.DataFrame):
        return rows
    try:
        return pd.DataFrame(rows)
    except ValueError as fault:
        raise BadQuestion(f"These rows do not make a table: {fault}.") from fault


def _are_records(rows: Any) -> bool:
    return isinstance(rows, list | tuple) and all(isinstance(row, dict) for row in rows)


def _length(rows: Any) -> int | None:
    if isinstance(rows, dict):
        lengths = {len(column) for column in rows.values() if hasattr(column, "__len__")}
        return lengths.pop() if len(lengths) == 1 else None
    return len(rows) if hasattr(rows, "__len__") and not isinstance(rows, str) else None


def _versions(release: Release) -> Mapping[str, str]:
    return MappingProxyType(
        {
            layer: ", ".join(f"{pin.name}={pin}" for pin in pins)
            for layer, pins in release.layers.items()
            if pins
        }
    )
