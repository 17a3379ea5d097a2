"""The feature layer: folders of features made by a DVC pipeline, kept by their content.

A pin is copied out of DVC's cache once, into `<state>/releases/<digest>`; from
then on nothing depends on the cache, and what is live is a symbolic link. The
user's checkout is never touched; stages run only where features are made again.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from ebbtide.adapters.disk.files import publish_verified
from ebbtide.adapters.disk.keeping import KeptByDigest
from ebbtide.adapters.disk.shown import ShownFolder, folder_of
from ebbtide.adapters.disk.sizes import misfits
from ebbtide.adapters.dvc.contents import Hashes, build, describe, differing, refuse_damaged
from ebbtide.adapters.dvc.lock import (
    Object,
    Output,
    last_change,
    missing,
    read_objects,
    read_output,
)
from ebbtide.adapters.dvc.recipes import apart
from ebbtide.adapters.dvc.remaking import Fingerprint, Remaking
from ebbtide.adapters.git.repository import Repository
from ebbtide.adapters.system.file import FeaturesThing
from ebbtide.core.digests import digest, tree_digest
from ebbtide.core.errors import BadConfiguration, NotRestorable, Refused, Unknown
from ebbtide.core.making import Tell
from ebbtide.core.release import Pin, Release


class Features(KeptByDigest):
    """The `Layer` of features. `state` is where ebbtide keeps contents."""

    def __init__(
        self,
        state: Path,
        things: Mapping[str, FeaturesThing],
        at: Callable[[str], Path],
        *,
        tracking_uri: str = "",
        fingerprint: Fingerprint | None = None,
    ) -> None:
        """`at` makes a path of the system file absolute. Raises `BadConfiguration`.

        `tracking_uri` is MLflow's, for the pipeline's stages; `fingerprint` that of a table's
        version, which tells whether two versions have the same rows.
        """
        self._store = state / "releases"
        self._things = dict(things)
        self._at = at
        self._hashes = Hashes()
        self._remaking = Remaking(
            state,
            at,
            self._faults,
            hashes=self._hashes,
            tracking_uri=tracking_uri,
            fingerprint=fingerprint,
        )
        for name, thing in things.items():
            if not _is_inner(thing.out):
                raise BadConfiguration(
                    f"layers.features.{name}.out `{thing.out}` leads out of its repository."
                )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._things)

    def pin(self, name: str, ask: str = "") -> Pin:
        """The features as a commit's dvc.lock has them, kept. Empty: the checked-out commit.

        The commit that is pinned is the one that last changed them or their pipeline:
        the same features are the same pin, whatever else was committed since.
        Raises `Refused` where that checkout has changes of the pipeline that are in
        no commit, `NotRestorable` where DVC's cache lacks an object.
        """
        thing, repository = self._thing(name), self._repository(name)
        self._refuse_stray_out(name)
        commit = repository.commit(ask) if ask else repository.head()
        output = read_output(repository, commit, thing.out, apart(thing))
        if not ask:
            _refuse_uncommitted(repository, output, name)
        commit, output = last_change(repository, commit, thing.out, output, apart(thing))
        content = digest(self._hashes.contents_of(output.objects, thing.out, commit))
        if not (self._store / content).exists():
            refuse_damaged(output.objects, thing.out, commit)
        folder = self._publish(output.objects, thing.out, commit, content)
        at = {
            "commit": commit,
            "lock": output.lock,
            "pipeline": output.pipeline,
            "out": thing.out,
            "md5": output.md5,
            **self._remaking.data_of(thing, output.inputs, output.values),
            **describe(folder),
        }
        return Pin(name, content, at)

    def problems(self, pin: Pin) -> list[str]:
        """What is wrong with the kept folder; where none is kept, with what it would be made of."""
        found = [self._shown(pin.name).blocked(), *self._faults(pin)]
        return [problem for problem in found if problem]

    def lost_outside(self, pin: Pin) -> list[str]:
        """Why the commit and DVC's cache cannot give the content."""
        if "target" in pin.at or pin.name not in self._things:
            return []
        return [lost] if (lost := self._lost(pin)) else []

    def glance(self, pin: Pin) -> list[str]:
        """As `Glancing.glance`: the kept folder against DVC's list of its files."""
        folder = self.path(pin)
        if "target" in pin.at or folder.exists():
            faults = misfits(folder, self._known_sizes(pin))
        else:
            faults = self.glance_outside(pin)
        return [problem for problem in (self._shown(pin.name).blocked(), *faults) if problem]

    def glance_outside(self, pin: Pin) -> list[str]:
        """As `Glancing.glance_outside`: whether DVC's cache has every file of the commit."""
        if "target" in pin.at or pin.name not in self._things:
            return []
        try:
            gone = [
                str(missing(each.path, f"{pin.at['out']}/{path}", pin.at["commit"]))
                for path, each in self._objects(pin).items()
                if not each.path.is_file()
            ]
        except Refused as fault:
            return [str(fault)]
        return gone[:1]

    def prepare(self, pin: Pin) -> None:
        """Keep the features again where they are missing. Raises `NotRestorable`.

        A kept folder is hashed in full; one that was changed is left as evidence.
        """
        folder = self.path(pin)
        if "target" in pin.at or folder.exists():
            changes = self._changes(pin, folder)
            if changes:
                raise NotRestorable(
                    " ".join(changes),
                    remedy=f"Move {folder} away, then prepare the release again.",
                )
            return
        lost = self._lost(pin)
        if lost:
            raise NotRestorable(lost, remedy="Run `dvc pull`, or choose another release.")
        commit, out = pin.at["commit"], pin.at["out"]
        self._publish(self._objects(pin), out, commit, pin.digest)

    def path(self, pin: Pin) -> Path:
        """The kept folder of a pin; for what was live without ebbtide, where that is."""
        return folder_of(self._store, pin)

    def live(self, name: str) -> Pin | None:
        """What the link leads to now.

        A kept folder goes by its name: hashing gigabytes has no place in a
        cut-over, and `prepare` has proved it. Another folder is hashed and told as
        `target`; the digest is empty where nothing can be read.
        """
        shown = self._shown(name).live(by_name=True)
        return None if shown is None else Pin(name, *shown)

    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        """Let the link lead to the folder of `to`. `note` is lost: a link has no history."""
        if to is not None and "target" not in to.at and not self.path(to).is_dir():
            raise NotRestorable(
                f"The kept features {self.path(to)} are missing.",
                remedy="Prepare the release first.",
            )
        self._shown(name).show(to, only_from)

    def recipe(self, name: str, within: Release, ask: str = "") -> Pin:
        """As `Making.recipe`: a pipeline, and the versions of the tables that it is to read."""
        return self._remaking.recipe(name, self._thing(name), within, ask)

    def found(self, recipe: Pin, within: Release) -> Pin | None:
        """As `Making.found`: what is kept, or what DVC's cache can give without a stage."""
        return self._remaking.found(self._thing(recipe.name), recipe)

    def make(self, recipe: Pin, within: Release, tell: Tell) -> Pin:
        """As `Making.make`: by the pipeline, in a checkout aside."""
        return self._remaking.make(self._thing(recipe.name), recipe, tell)

    def _faults(self, pin: Pin) -> list[str]:
        """Why the content cannot be had, neither from what is kept nor from DVC's cache."""
        folder = self.path(pin)
        if "target" in pin.at or folder.exists():
            return self._changes(pin, folder)
        return [lost] if (lost := self._lost(pin)) else []

    def _thing(self, name: str) -> FeaturesThing:
        if name not in self._things:
            known = ", ".join(self._things) or "none"
            raise Unknown(f"No features `{name}`.", remedy=f"Known here: {known}.")
        return self._things[name]

    def _repository(self, name: str) -> Repository:
        return Repository(self._at(self._thing(name).repository))

    def _shown(self, name: str) -> ShownFolder:
        return ShownFolder.of(self._thing(name).link, self._store, self._at)

    def _refuse_stray_out(self, name: str) -> None:
        repository = self._repository(name).folder
        out = repository / self._thing(name).out
        if not out.resolve().is_relative_to(repository.resolve()):
            raise Refused(
                f"`{self._thing(name).out}` of features `{name}` leads out of {repository}.",
                remedy="Let the pipeline write into a folder of its own repository.",
            )

    def _publish(self, objects: Mapping[str, Object], out: str, commit: str, content: str) -> Path:
        return publish_verified(partial(build, objects, out, commit), self._store, content)

    def _objects(self, pin: Pin) -> Mapping[str, Object]:
        """What the pinned commit says now. Raises `NotRestorable` where it is gone."""
        commit, out = pin.at.get("commit", ""), pin.at.get("out", "")
        repository = self._repository(pin.name)
        if not repository.has(commit):
            raise NotRestorable(
                f"Features `{pin.name}`: commit {commit[:10] or 'unknown'} is gone from "
                f"{repository.folder} and no copy of {pin.digest[:10]} is kept."
            )
        if "made_at" in pin.at:
            return read_objects(repository, commit, out, pin.at["md5"])
        return read_output(repository, commit, out).objects

    def _known_sizes(self, pin: Pin) -> dict[str, int | None]:
        """Of each file, as DVC's cache has it; empty where no commit tells the files."""
        if "target" in pin.at:
            return {}
        try:
            objects = self._objects(pin)
        except Refused:
            return {}
        return {
            path: each.path.stat().st_size if each.path.is_file() else None
            for path, each in objects.items()
        }

    def _lost(self, pin: Pin) -> str:
        """Why the pinned commit and the cache cannot give the pinned content; empty: they can."""
        try:
            contents = self._hashes.contents_of(self._objects(pin), pin.at["out"], pin.at["commit"])
        except Refused as fault:
            return str(fault)
        if digest(contents) != pin.digest:
            return (
                f"Features `{pin.name}`: DVC's cache has another content for `{pin.at['out']}` "
                f"at commit {pin.at['commit'][:10]} than was pinned ({pin.digest[:10]})."
            )
        return ""

    def _changes(self, pin: Pin, folder: Path) -> list[str]:
        """How a kept folder differs from the pin, file by file where DVC still knows the files."""
        try:
            if tree_digest(folder) == pin.digest:
                return []
        except OSError as fault:
            return [f"The kept features {folder} cannot be read: {fault}."]
        try:
            objects = self._objects(pin)
        except Refused:
            objects = {}
        return differing(folder, objects) or [f"The kept features {folder} were changed."]


def _refuse_uncommitted(repository: Repository, output: Output, name: str) -> None:
    files = [file for source in output.sources for file in repository.changed(source)]
    if files:
        raise Refused(
            f"The pipeline of features `{name}` has changes that are in no commit: "
            f"{', '.join(sorted(set(files)))}.",
            remedy="Commit them with the dvc.lock of `dvc repro`, or ask for a commit by its hash.",
        )


def _is_inner(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts
