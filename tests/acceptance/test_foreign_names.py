"""ebbtide knows every system by its system file, and the reference system not at all."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORDS = re.compile(r"(?i)(?<![a-z])(rides?|riders?|pricing|surges?|zones?)(?![a-z])")


def told() -> Iterator[str]:
    """Every line of the program that has a word of the reference system."""
    for path in sorted(
        path for name in ("ebbtide", "flows", "tasks") for path in (ROOT / name).rglob("*.py")
    ):
        for n, line in enumerate(path.read_text().splitlines(), 1):
            if WORDS.search(line):
                yield f"{path.relative_to(ROOT)}:{n}: {line.strip()}"


def test_nothing_outside_the_reference_system_knows_it_by_name() -> None:
    assert list(told()) == []
