"""A package of a user's own, installed for one test: real metadata on the import path."""

import shutil
import sys
from collections.abc import Mapping
from importlib import invalidate_caches
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "docs" / "examples" / "feature_flags.py"


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    points: Mapping[str, Mapping[str, str]],
    name: str = "shop-flags",
    **modules: str,
) -> None:
    """Install the example layer, modules by their source, and entry points by group and name."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLE, folder)
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)
    about = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in named.items())
        for group, named in points.items()
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))
    for module in ("feature_flags", *modules):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    invalidate_caches()
