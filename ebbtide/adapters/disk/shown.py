"""A symbolic link that shows one of the folders which a layer keeps by their digest."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ebbtide.adapters.disk.files import link_target, place, replace_link
from ebbtide.core.digests import tree_digest
from ebbtide.core.errors import Refused
from ebbtide.core.release import Pin


def folder_of(store: Path, pin: Pin) -> Path:
    """The kept folder of a pin; for what was shown without ebbtide, where that is."""
    target = pin.at.get("target")
    return Path(target) if target else store / pin.digest


@dataclass(frozen=True, slots=True)
class ShownFolder:
    """What a link shows now, and how it comes to show another pin."""

    link: Path
    store: Path

    @classmethod
    def of(cls, link: str, store: Path, at: Callable[[str], Path]) -> "ShownFolder":
        """Its folder is made absolute, not the link itself: that would follow it."""
        path = PurePosixPath(link)
        return cls(at(str(path.parent)) / path.name, store)

    def blocked(self) -> str:
        """Why no link can be here; empty: it can."""
        try:
            link_target(self.link)
        except Refused as fault:
            return str(fault)
        return ""

    def live(self, *, by_name: bool) -> tuple[str, dict[str, str]] | None:
        """The digest of what is shown, and `target` where that is no kept folder; None: nothing.

        `by_name`: a kept folder is believed to hold what it is called. The digest
        is empty where nothing can be read.
        """
        target = link_target(self.link)
        if target is None:
            return None
        if by_name and target.parent == place(self.store) and target.is_dir():
            return target.name, {}
        try:
            found = tree_digest(target)
        except OSError:
            found = ""
        kept = not by_name and target == place(self.store / (found or "nothing"))
        return found, {} if kept else {"target": str(target)}

    def show(self, to: Pin | None, only_from: Collection[Pin | None]) -> None:
        """Let it show `to` where it shows one of `only_from`. Raises `Conflict`, `Refused`."""
        former = [None if pin is None else folder_of(self.store, pin) for pin in only_from]
        target = None if to is None else folder_of(self.store, to)
        replace_link(self.link, target, only_from=former)
