"""YAML as plain data: no tags, anchors, aliases, merges, repeated keys or oversized files."""

from pathlib import Path
from typing import Any

import yaml

from ebbtide.core.errors import BadConfiguration

_LARGEST = 256 * 1024


def plain_yaml(path: Path) -> Any:
    """A YAML file of at most 256 KiB as plain data. Raises `BadConfiguration`."""
    try:
        if path.stat().st_size > _LARGEST:
            raise BadConfiguration(f"{path} is larger than {_LARGEST // 1024} KiB.")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Plain)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as fault:
        raise BadConfiguration(f"{path} cannot be read as YAML: {fault}") from fault
    except OSError as fault:
        raise BadConfiguration(f"{path} cannot be read: {fault.strerror}.") from fault


class _Plain(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.YAMLError(f"anchors and aliases are not allowed (line {_line(event)})")
        if getattr(event, "tag", None):
            raise yaml.YAMLError(f"YAML tags are not allowed (line {_line(event)})")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"{', '.join(sorted(twice))} is there twice (line {_line(node)})")
        return super().construct_mapping(node, deep)


def _line(mark: Any) -> int:
    return int(mark.start_mark.line) + 1
