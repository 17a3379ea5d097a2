"""Waiting until a health URL reports the version that it should have arrived at."""

import json
import re
from http.client import HTTPException
from time import monotonic, sleep
from typing import Any
from urllib.request import Request, urlopen

from ebbtide.adapters.system.things import Health
from ebbtide.core.errors import GateNotPassed

_EVERY = 0.2
"""Seconds between two questions."""
_ONCE = 5.0
"""Seconds for one answer."""
_LARGEST = 1 << 20


def wait_until_reported(health: Health, expected: str) -> None:
    """Ask until the URL reports `expected`. Raises `GateNotPassed` after `health.within`."""
    deadline = monotonic() + health.within
    while True:
        said, why = _reported(health, min(_ONCE, max(deadline - monotonic(), _EVERY)))
        if said == expected:
            return
        if monotonic() + _EVERY >= deadline:
            break
        sleep(_EVERY)
    raise GateNotPassed(
        f"{health.url} {why or f'reports {said}'}, not {expected}, after {health.within:g} s.",
        remedy="Look at the cluster: the manifests are pushed, it has not arrived at them.",
    )


def _reported(health: Health, within: float) -> tuple[str | None, str]:
    """What the URL reports now, or else why nothing."""
    try:
        request = Request(health.url, headers={"Cache-Control": "no-cache"})  # noqa: S310 - checked: http(s)
        with urlopen(request, timeout=within) as answer:  # noqa: S310 - checked: http(s)
            text = answer.read(_LARGEST).decode(errors="replace")
    except (OSError, ValueError, HTTPException) as fault:
        return None, f"does not answer ({fault})"
    found = _in_json(text, health.reports) if health.reports else _in_text(text, health.pattern)
    return found, "" if found is not None else "reports no version"


def _in_json(text: str, path: str) -> str | None:
    try:
        found: Any = json.loads(text)
        for part in path.split("."):
            found = found[int(part)] if isinstance(found, list) else found[part]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None


def _in_text(text: str, pattern: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None
