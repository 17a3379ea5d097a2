"""From an undo template and what the receiver answered to the payload that is sent."""

import json
from typing import Any

from ebbtide.core.effects import Effect, Undo

_ANSWER = "{answer."


def filled(effect: Effect, template: Undo) -> Any:
    """The payload that undoes the effect. Raises LookupError where the answer lacks a part."""
    return _filled(template.payload, effect)


def _filled(part: Any, effect: Effect) -> Any:
    if isinstance(part, dict):
        return {name: _filled(value, effect) for name, value in part.items()}
    if isinstance(part, list):
        return [_filled(value, effect) for value in part]
    if part == "{key}":
        return effect.key
    if isinstance(part, str) and part.startswith(_ANSWER) and part.endswith("}"):
        return _answered(effect, part.removeprefix(_ANSWER).removesuffix("}"))
    return part


def _answered(effect: Effect, path: str) -> Any:
    try:
        found = json.loads(effect.answer)
        for name in path.split("."):
            found = found[int(name)] if isinstance(found, list) else found[name]
    except (ValueError, LookupError, TypeError) as fault:
        raise LookupError(f"the answer to {effect.key} has no `{path}`") from fault
    return found
