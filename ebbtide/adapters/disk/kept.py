"""Single files kept by their content's digest, and shown at a path that follows the release."""

import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from ebbtide.adapters.disk.files import locked
from ebbtide.adapters.handover import hand_over
from ebbtide.core.digests import bytes_digest
from ebbtide.core.errors import NotRestorable
from ebbtide.core.release import Pin


class KeptFiles:
    """Contents below a folder of the layer's own. Nothing that is kept is ever changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, content: bytes) -> str:
        """Keep a content, on disk before this returns; its sha256, as for `Pin.digest`."""
        digest = bytes_digest(content)
        if self.problems(digest):
            write_whole(self._folder / digest, content)
        return digest

    def problems(self, digest: str) -> list[str]:
        """Why a kept content cannot be had, as for `Layer.problems`."""
        try:
            found = bytes_digest((self._folder / digest).read_bytes())
        except OSError:
            return [f"the kept content {digest[:10]} is missing"]
        return [] if found == digest else [f"the kept content {digest[:10]} was changed"]

    def read(self, digest: str) -> bytes:
        """A kept content, verified. Raises `NotRestorable`."""
        problems = self.problems(digest)
        if problems:
            raise NotRestorable(f"In {self._folder}, {problems[0]}.")
        return (self._folder / digest).read_bytes()

    def shown(self, path: Path) -> str | None:
        """The digest of what a path shows now; None where nothing is there."""
        try:
            return bytes_digest(path.read_bytes())
        except FileNotFoundError:
            return None

    def show(self, path: Path, to: Pin | None, only_from: Collection[Pin | None]) -> None:
        """Let a path show the kept content of `to`, as `Layer.move` promises; None: no file.

        What was shown is kept first, so that it can come back. A reader sees the
        old content or the new one, never a part. Raises `Conflict`, `NotRestorable`.
        """

        def change(pin: Pin | None) -> None:
            if pin is None:
                path.unlink()
            else:
                write_whole(path, self.read(pin.digest))

        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):
            if path.is_file():
                self.keep(path.read_bytes())
            hand_over(
                str(path),
                to,
                only_from,
                shown=lambda: self.shown(path),
                identity=lambda pin: pin.digest,
                show=change,
            )


def write_whole(path: Path, content: bytes) -> None:
    """Let a file have a content, on disk before this returns; a reader never sees a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as aside:
        made = Path(aside) / path.name
        with made.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
