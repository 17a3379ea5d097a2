"""The reference of the system file, from its JSON schema."""

from collections.abc import Iterator
from typing import Any

from markup import anchor, heading, page, table

_RULES = """
A key that is not in these tables is refused, and so are YAML anchors, tags and a key that is there
twice. Below `layers` alone further keys are allowed: [layers of your own](../add-a-layer.md).
Numbers of seconds may have a fraction.

`ebbtide schema` prints the JSON schema that these tables are made from. An editor that knows it
explains every key where it is written.
"""
_WORDS = {"string": "text", "number": "number", "integer": "whole number", "boolean": "yes or no"}
_LIMITS = {"minimum": "at least", "exclusiveMinimum": "more than", "maximum": "at most"}


def write() -> str:
    """Every key of a system file."""
    from ebbtide.adapters.system.file import schema

    whole = schema()
    parts = ["# The system file", whole["description"], _RULES]
    return page([*parts, *_keys(whole, whole["$defs"], "")])


def _keys(schema: dict[str, Any], defs: dict[str, Any], path: str) -> Iterator[str]:
    """A table of an object's keys, then the objects within."""
    rows, within = [], []
    for key, about in schema["properties"].items():
        by_name = _by_name(about)
        inner = _references(by_name or about)
        place = f"{path}{key}" + (".NAME" if by_name else "")
        sections = [(_titled(place, defs[name], len(inner)), defs[name]) for name in inner]
        within += [(title, found, f"{place}.") for title, found in sections]
        links = " or ".join(f"[`{title}`](#{anchor(title)})" for title, _ in sections)
        kind = links + (" for each name" if by_name else "") if links else _kind(about)
        default = "required" if key in schema.get("required", []) else _default(about)
        rows.append((f"`{key}`", kind, default, about.get("description", "")))
    yield table(("key", "type", "default", "meaning"), rows)
    for title, found, before in within:
        yield heading(title)
        yield found.get("description", "")
        yield from _keys(found, defs, before)


def _by_name(about: dict[str, Any]) -> dict[str, Any]:
    """What a key holds for each name that the user gives; empty where it holds one thing."""
    named = [*about.get("patternProperties", {}).values(), about.get("additionalProperties")]
    return next((each for each in named if isinstance(each, dict) and _references(each)), {})


def _references(about: dict[str, Any]) -> list[str]:
    """The objects of the schema that a key may hold."""
    places = [about, *about.get("anyOf", []), *about.get("oneOf", []), *about.get("allOf", [])]
    names = [str(place["$ref"]).rpartition("/")[2] for place in places if "$ref" in place]
    return list(dict.fromkeys(names))


def _titled(place: str, schema: dict[str, Any], among: int) -> str:
    kind = schema["properties"].get("kind", {}) if among > 1 else {}
    return f"{place} ({kind.get('const') or schema['title']})" if kind else place


def _kind(about: dict[str, Any]) -> str:
    if "anyOf" in about:
        return " or ".join(_kind(each) for each in about["anyOf"] if each.get("type") != "null")
    if "enum" in about:
        return " or ".join(f"`{each}`" for each in about["enum"])
    if "const" in about:
        return f"`{about['const']}`"
    if about.get("type") == "array":
        return f"list of {_kind(about.get('items', {}))}"
    if about.get("type") == "object":
        return "mapping"
    kind = _WORDS.get(about.get("type", ""), "anything")
    told = [f"{word} {about[limit]:g}" for limit, word in _LIMITS.items() if limit in about]
    told += [f"as `{about['pattern']}`"] if "pattern" in about else []
    return f"{kind}, {', '.join(told)}" if told else kind


def _default(about: dict[str, Any]) -> str:
    value = about.get("default")
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, dict):
        return "its defaults"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value}`" if value != "" else "empty"
