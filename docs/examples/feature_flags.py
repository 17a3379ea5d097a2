"""Feature flags as a layer: numbered JSON files, one of which is what services read."""

from collections.abc import Mapping

from ebbtide.layers import FloatingReference, KeptFiles, Options, Pin, Seen, Site, Unknown


class FlagFile(Options):
    versions: str  # the folder of 1.json, 2.json, ..., relative to `root`
    live: str  # the file that services read, relative to `root`


class Flags:
    options = FlagFile

    def __init__(self, things: Mapping[str, FlagFile], site: Site) -> None:
        self._things, self._at, self._kept = things, site.at, KeptFiles(site.state)
        self.names = tuple(things)

    def pin(self, name: str, ask: str = "") -> Pin:
        files = {file.stem: file for file in self._at(self._things[name].versions).glob("*.json")}
        version = ask or max(filter(str.isdecimal, files), key=int, default="1")
        if not version.isdecimal():
            raise FloatingReference(f"`{ask}` is not the number of a flag file.")
        if version not in files:
            raise Unknown(f"There is no {version}.json for flags `{name}`.")
        return Pin(name, self._kept.keep(files[version].read_bytes()), {"version": version})

    def problems(self, pin: Pin) -> list[str]:
        return self._kept.problems(pin.digest)

    def prepare(self, pin: Pin) -> None:
        self._kept.read(pin.digest)

    def live(self, name: str) -> Pin | None:
        digest = self._kept.shown(self._at(self._things[name].live))
        return Pin(name, digest) if digest else None

    def move(self, name: str, to: Pin | None, *, only_from: Seen, note: str) -> None:
        self._kept.show(self._at(self._things[name].live), to, only_from)
