"""Content digests: how ebbtide says that two things are the same."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def canonical(value: Any) -> bytes:
    """The one JSON form of a value: sorted keys, no spaces, UTF-8, no NaN.

    Raises ValueError for NaN and infinities, TypeError for what JSON cannot hold.
    """
    text = json.dumps(
        value,
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return text.encode()


def digest(value: Any) -> str:
    """sha256 (64 hex digits) of a value's canonical form."""
    return hashlib.sha256(canonical(value)).hexdigest()


def bytes_digest(content: bytes) -> str:
    """sha256 (64 hex digits) of the bytes as they are."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (64 hex digits) of a file, read in pieces."""
    seen = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            seen.update(piece)
    return seen.hexdigest()


def tree(root: Path) -> Mapping[str, str]:
    """Every file below a folder, by its relative path, with its sha256.

    A link counts as the file that it leads to; an empty folder counts as nothing.
    Raises FileNotFoundError where the folder is missing or holds no file: an
    empty tree must never pass for a restored one.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if not files:
        raise FileNotFoundError(f"no files below {root}")
    return {path.relative_to(root).as_posix(): file_digest(path) for path in files}


def tree_digest(root: Path) -> str:
    """One sha256 for a folder: of its files' paths and contents, nothing else."""
    return digest(tree(root))
