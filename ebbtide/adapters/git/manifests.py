"""Values in a YAML or JSON manifest, by dotted path: read, and written where they stand.

Only the value's own characters change: comments, order and layout stay.
"""

import json
import re
from collections.abc import Mapping

import yaml

from ebbtide.core.errors import Refused

_DOT = re.compile(r"(?<!\\)\.")


def value_at(content: bytes, key: str, place: str) -> str | None:
    """The text of the value at `key`; None where there is none. `place` names the file."""
    found = _scalars(_text(content, place), key, place)
    return None if len(found) != 1 or found[0].tag.endswith(":null") else str(found[0].value)


def with_values(content: bytes, values: Mapping[str, str], place: str) -> bytes:
    """The manifest with those values, each as a quoted text.

    A key is a dotted path; digits count in a list, and `\\.` is a dot in a name.
    Raises `Refused` where a key is missing, or is there in several documents.
    """
    text = _text(content, place)
    spots = {}
    for key, value in values.items():
        found = _scalars(text, key, place)
        if len(found) != 1 or found[0].style in ("|", ">"):
            raise Refused(
                f"{place} has {'no' if not found else 'not one plain'} value at `{key}`.",
                remedy="Write the key there once, with any value; ebbtide changes only values.",
            )
        spots[found[0].start_mark.index, found[0].end_mark.index] = value
    for (start, end), value in sorted(spots.items(), reverse=True):
        space = " " if start == end and not text[:start].endswith(" ") else ""
        text = text[:start] + space + json.dumps(value, ensure_ascii=False) + text[end:]
    return text.encode()


def _scalars(text: str, key: str, place: str) -> list[yaml.ScalarNode]:
    """The scalar at that path of each document that has one."""
    parts = [part.replace("\\.", ".") for part in _DOT.split(key)]
    try:
        documents = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as fault:
        raise Refused(f"{place} cannot be read as YAML: {fault}") from fault
    found = (_below(document, parts) for document in documents)
    return [node for node in found if isinstance(node, yaml.ScalarNode)]


def _below(node: yaml.Node | None, parts: list[str]) -> yaml.Node | None:
    for part in parts:
        if isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if name.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and part.isdecimal():
            node = node.value[int(part)] if int(part) < len(node.value) else None
        else:
            return None
    return node


def _text(content: bytes, place: str) -> str:
    try:
        text = content.decode()
    except UnicodeDecodeError as fault:
        raise Refused(f"{place} is no text: {fault}") from fault
    if text.startswith("\ufeff"):
        raise Refused(f"{place} begins with a byte order mark.", remedy="Save it without one.")
    return text
