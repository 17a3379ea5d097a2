"""A system file as text: every key of the schema in its order, explained where it stands.

The explanations are the schema's own. A key that is not set is there too,
commented out, with its default; a layer that is not there with an example.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_WIDTH = 92
_EXAMPLES: Mapping[str, Any] = {
    "tracking_uri": "http://127.0.0.1:5000",
    "registered_model": "demand",
    "out": "data/features",
    "path": "config",
    "data.path": "tables/orders",
    "infra.path": "serving",
    "link": "live/config",
    "features.link": "live/features",
    "infra.link": "live/serving",
    "role": "training",
    "prompt": "greeting",
    "kind": "gitops",
    "repository": "https://git.example.org/manifests.git",
    "branch": "main",
    "files": {"values.yaml": {"image.tag": "model/main@version"}},
    "url": "https://serving.example.org/version",
    "file": "values.yaml",
    "key": "image.tag",
    "stage": "train",
    "result": "data/trained.json",
    "features": "main",
    "metric": "validation_error",
}
"""What stands for a value that only the user knows, in a key that is commented out."""
_COMMENTED_KEY = re.compile(r"( *)#([a-z_]+: .*)")


def render(data: Mapping[str, Any]) -> str:
    """The text of a system file with these values. It is not checked here: read it back."""
    from ebbtide.adapters.system.file import SystemFile

    title = f"What the system `{data['system']}` is made of, and how it is served and proved."
    head = [
        *_comment(title),
        *_comment(
            "Written by `ebbtide init`, to be edited and committed. Keys behind `#` show their "
            "defaults, or an example; relative paths start from `root`."
        ),
    ]
    return "\n".join([*head, *_mapping(SystemFile, data, apart=True)]) + "\n"


def _mapping(
    model: type["BaseModel"], data: Mapping[str, Any], *, apart: bool = False, brief: bool = False
) -> Iterator[str]:
    """The keys of a mapping. `apart`: with empty lines between; `brief`: not explained again."""
    from ebbtide.adapters.system.explained import explanations

    told = explanations(model)
    for name, field in model.model_fields.items():
        if apart:
            yield ""
        if not brief:
            yield from _comment(told.get(name, ""))
        yield from _key(name, field, data)


def _key(name: str, field: "FieldInfo", data: Mapping[str, Any]) -> Iterator[str]:
    """One key with what is below it; behind `#` where it is not set."""
    things, part = _things(field.annotation), _part(field.annotation)
    set_here = bool(data.get(name)) or (name in data and not (things or part))
    if things:
        below = _several(things, data[name]) if set_here else _example_of(things, name)
    elif part:
        below = [*_mapping(part, data.get(name) or {}, apart=name == "layers")]
    else:
        line = f"{name}: {_value(data[name] if set_here else _default(name, field))}"
        yield line if set_here else f"#{line}"
        return
    lines = [f"{name}:", *_indented(below)]
    yield from lines if set_here else _behind(lines)


def _several(variants: list[type["BaseModel"]], things: Mapping[str, Any]) -> list[str]:
    """The things of a layer; the keys are explained at the first of each kind."""
    lines: list[str] = []
    explained: set[str] = set()
    for name, thing in things.items():
        variant = _variant(variants, thing)
        told = variant.__name__ in explained
        explained.add(variant.__name__)
        lines += [f"{name}:", *_indented([*_mapping(variant, thing, brief=told)])]
    return lines


def _example_of(variants: list[type["BaseModel"]], layer: str) -> list[str]:
    """What a thing of each kind would look like."""
    lines: list[str] = []
    for name, variant in zip(("main", "other"), variants, strict=False):
        needed = {
            key: _EXAMPLES.get(f"{layer}.{key}", _EXAMPLES.get(key, "..."))
            for key, field in variant.model_fields.items()
            if field.is_required()
        }
        lines += [f"{name}:", *_indented([*_mapping(variant, needed)])]
    return lines


def _variant(variants: list[type["BaseModel"]], thing: Mapping[str, Any]) -> type["BaseModel"]:
    kinds = {_value_of_kind(variant): variant for variant in variants}
    return kinds.get(thing.get("kind"), variants[0])


def _value_of_kind(variant: type["BaseModel"]) -> Any:
    field = variant.model_fields.get("kind")
    return get_args(field.annotation)[0] if field else None


def _things(annotation: Any) -> list[type["BaseModel"]]:
    """The kinds of things in a `dict` of named things; empty: it is something else."""
    if get_origin(annotation) is not dict:
        return []
    return _models(get_args(annotation)[1])


def _part(annotation: Any) -> type["BaseModel"] | None:
    models = _models(annotation)
    return models[0] if models and get_origin(annotation) is not dict else None


def _models(annotation: Any) -> list[type["BaseModel"]]:
    """The pydantic models in an annotation, through `Annotated` and unions."""
    from pydantic import BaseModel

    origin = get_origin(annotation)
    if origin is Annotated:
        return _models(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [model for each in get_args(annotation) for model in _models(each)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return []


def _default(name: str, field: "FieldInfo") -> Any:
    if field.is_required():
        return _EXAMPLES.get(name, "...")
    return field.get_default(call_default_factory=True)


def _value(value: Any) -> str:
    """A value on one line of YAML, quoted where it must be."""
    import yaml

    style = '"' if isinstance(value, str) and not value.isprintable() else None
    flow = isinstance(value, dict | list | tuple)
    written = yaml.safe_dump(
        value, default_flow_style=flow, default_style=style, width=10**6, allow_unicode=True
    )
    return str(written).removesuffix("...\n").strip()


def _comment(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        words = " ".join(paragraph.split())
        yield from textwrap.wrap(
            words, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False
        )


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" if line else "" for line in lines]


def _behind(lines: list[str]) -> Iterator[str]:
    """Commented out, so that taking the first `#` of each line away makes it YAML again."""
    for line in lines:
        key = _COMMENTED_KEY.fullmatch(line)
        yield f"#{key[1]}{key[2]}" if key else f"#{line}" if line else ""
