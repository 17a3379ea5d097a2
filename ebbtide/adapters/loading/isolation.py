"""Code of several releases in one process, each with modules of its own.

MLflow puts a model's own code (`code_paths`) at the head of `sys.path` for good,
so the second of two models whose code has the same module names would silently
run the first one's: a mixed release. Here the names are taken away after each
load; an import that a model puts off until it predicts fails then, loudly.
"""

import importlib
import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import ModuleType

from ebbtide.core.errors import NotRestorable, Unreachable

_LOCK = threading.RLock()
_COUNT = itertools.count()
_WAIT = 60.0
"""Seconds to wait for another release that is being imported."""


@contextmanager
def own_code(folder: Path) -> Iterator[None]:
    """Import what lies in a model's folder, and leave no trace of it in `sys`.

    Writes no bytecode: the folder is verified by its digest.
    """
    names = _modules_in(folder)
    with _importing():
        path, hidden = sys.path, _take(names)
        sys.path = list(path)
        try:
            yield
        finally:
            sys.path = path
            _take(names)
            sys.modules.update(hidden)


def import_pinned(folder: Path, file: PurePosixPath, digest: str) -> ModuleType:
    """A Python file of a pinned folder, as a module that nobody else has.

    Its neighbours are imported relatively (`from . import prices`). Each call
    makes new modules, so that nothing which one release keeps in a module is
    seen by another, also where both have the same code.
    """
    parts = (*file.parent.parts, file.stem)
    if file.suffix != ".py" or not all(part.isidentifier() for part in parts):
        raise NotRestorable(f"{file} cannot be imported as Python code.")
    if not folder.joinpath(file).is_file():
        raise NotRestorable(f"There is no {file} in the pinned content {digest[:12]}.")
    package = ModuleType(f"ebbtide_pinned_{digest[:16]}_{next(_COUNT)}")
    package.__path__ = [str(folder)]
    with _importing():
        importlib.invalidate_caches()
        sys.modules[package.__name__] = package
        try:
            return importlib.import_module(".".join((package.__name__, *parts)))
        except BaseException:
            _take({package.__name__})
            raise


def forget_pinned(module: str) -> None:
    """Let go of the modules that `import_pinned` made."""
    _take({module.partition(".")[0]})


@contextmanager
def _importing() -> Iterator[None]:
    if not _LOCK.acquire(timeout=_WAIT):
        raise Unreachable(f"Another release has been importing its code for {_WAIT:.0f} s.")
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        yield
    finally:
        sys.dont_write_bytecode = before
        _LOCK.release()


def _modules_in(folder: Path) -> set[str]:
    """Top-level names of the code that a model brings along."""
    brought = folder.glob("code/*")
    return {
        path.stem
        for path in brought
        if path.suffix == ".py" or (path.is_dir() and path.name.isidentifier())
    } - {"__pycache__"}


def _take(names: set[str]) -> dict[str, ModuleType]:
    mine = [name for name in list(sys.modules) if name.partition(".")[0] in names]
    return {name: sys.modules.pop(name) for name in mine}
