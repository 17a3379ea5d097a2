"""Puts a new system file in its place: checked first, whole or not at all, nothing overwritten."""

import os
import shutil
import tempfile
from pathlib import Path

from ebbtide.core.errors import Refused


def refuse_existing(path: Path) -> None:
    """Raises `Refused` where there is a file already."""
    if path.exists() or path.is_symlink():
        raise Refused(
            f"{path} is there already.",
            remedy="Edit it, choose another name, or say --force: a backup is kept.",
        )


def put_in_place(path: Path, text: str, *, force: bool) -> Path | None:
    """Write a system file that reads back as one; where `force` replaced one, its backup.

    Raises `BadConfiguration` where the text is no system file, `Refused` where it
    cannot be written or another file stands there. Nothing has changed then.
    """
    from ebbtide.adapters.system.file import read_system_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder of its own, because a system file must have its system's name.
        with tempfile.TemporaryDirectory(prefix=".ebbtide-init-", dir=path.parent) as aside:
            draft = Path(aside) / path.name
            _write(draft, text)
            read_system_file(draft)
            if not force:
                _publish(draft, path)
                return None
            backup = _backup(path)
            draft.rename(path)
            _sync(path.parent)
            return backup
    except OSError as fault:
        raise Refused(
            f"{path} cannot be written: {fault.strerror}.",
            remedy="Say another place with --output.",
        ) from fault


def _write(draft: Path, text: str) -> None:
    with draft.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _publish(draft: Path, path: Path) -> None:
    """Give the draft its name, unless somebody else has taken it meanwhile."""
    try:
        os.link(draft, path)
    except FileExistsError:
        refuse_existing(path)
        raise
    except OSError:  # a file system without hard links
        refuse_existing(path)
        draft.rename(path)
    _sync(path.parent)


def _backup(path: Path) -> Path | None:
    if not path.exists():
        return None
    names = (f"{path.name}.bak" if n == 1 else f"{path.name}.bak{n}" for n in range(1, 10_000))
    backup = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    shutil.copy2(path, backup)
    return backup


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
