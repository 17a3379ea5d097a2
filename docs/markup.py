"""Small pieces of Markdown."""

from collections.abc import Iterable


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table; what stands in a cell may have line breaks and bars."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def page(parts: Iterable[str]) -> str:
    """The parts, with an empty line between; empty parts are left out."""
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def anchor(text: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in text.lower()).strip("-")


def heading(text: str) -> str:
    """A second-level heading that `anchor` leads to."""
    return f"## {text} {{: #{anchor(text)} }}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
