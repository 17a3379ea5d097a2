"""Making features again: of what, whether that was done before, and by their pipeline, aside.

A recipe is a pipeline (a commit's code, commands and parameters), the data that DVC
tracks, and a version of every table that the pipeline reads. Tables count by the
fingerprints of their rows. What a stage reads beside its declared dependencies is
no part of the recipe: nobody can know of it.
"""

import errno
import json
import posixpath
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebbtide.adapters.disk.files import publish_verified
from ebbtide.adapters.disk.kept import write_whole
from ebbtide.adapters.dvc.contents import (
    Hashes,
    describe,
    describe_files,
    refuse_damaged,
    take,
)
from ebbtide.adapters.dvc.lock import last_change, made_output, read_output
from ebbtide.adapters.dvc.pipeline import read_pipeline
from ebbtide.adapters.dvc.recipes import (
    apart,
    commit_of,
    environment_of,
    key_of,
    mapping,
    parameter,
    table_of,
    text,
    versions_of,
)
from ebbtide.adapters.git.repository import Repository
from ebbtide.adapters.system.file import FeaturesThing
from ebbtide.core.digests import canonical, digest, file_digest, tree_digest
from ebbtide.core.errors import GateNotPassed, Refused, Unknown
from ebbtide.core.making import Tell
from ebbtide.core.release import Pin, Release

if TYPE_CHECKING:
    from collections.abc import Iterator

Fingerprint = Callable[[str, str], str]
"""The fingerprint of a table's version. Raises `Refused` where it cannot be had any more."""

_FORMAT = 1
_OF_THE_COMMIT = ("commit", "out", "pipeline", "inputs")
"""What a pin and a recipe say of the commit; the rest is of tables."""


class Remaking:
    """The half of the features layer that makes: `core.making.Making` for each of its things."""

    def __init__(
        self,
        state: Path,
        at: Callable[[str], Path],
        faults: Callable[[Pin], list[str]],
        *,
        hashes: Hashes | None = None,
        tracking_uri: str = "",
        fingerprint: Fingerprint | None = None,
    ) -> None:
        """`faults`: why a pin's content cannot be had, kept or from DVC's cache."""
        self._state = state
        self._store = state / "releases"
        self._at = at
        self._faults = faults
        self._hashes = hashes or Hashes()
        self._tracking_uri = tracking_uri
        self._fingerprint = fingerprint
        self._seen: dict[str, Pin | None] = {}
        """What was found of a recipe; None: its commit does not have it, which never changes."""

    def recipe(self, name: str, thing: FeaturesThing, within: Release, ask: str) -> Pin:
        """As `Making.recipe`."""
        base, repository = within.pin("features", name), self._repository(thing)
        commit = repository.commit(ask) if ask else commit_of(name, base)
        if not repository.has(commit):
            raise Unknown(
                f"Commit {commit[:10]} of features `{name}` is gone from {repository.folder}.",
                remedy="Fetch it, or name another commit.",
            )
        pipeline = read_pipeline(repository, commit, thing.out, apart(thing))
        tables = {table: table_of(table, within) for table in sorted(thing.tables)}
        wanted = {
            "commit": commit,
            "out": thing.out,
            "stage": pipeline.stage,
            "pipeline": pipeline.digest,
            "inputs": pipeline.inputs,
            "tables": text({table: pin.at.get("version", "") for table, pin in tables.items()}),
            "fingerprints": text({table: pin.digest for table, pin in tables.items()}),
        }
        recipe = Pin(name, "", wanted)
        if base is None:
            return recipe
        if self._is_of(base, recipe):
            return base
        if _is_whole_record(base, recipe):
            self._seen.setdefault(key_of(recipe), None)
        return recipe

    def found(self, thing: FeaturesThing, recipe: Pin) -> Pin | None:
        """As `Making.found`: kept before, or by DVC's cache as the commit's own dvc.lock has it."""
        key = key_of(recipe)
        known = self._seen.get(key)
        if known is not None and ((self._store / known.digest).is_dir() or not self._faults(known)):
            return known
        known = self._kept(recipe)
        if known is None and key not in self._seen:
            known = self._committed(thing, recipe)
        self._seen[key] = known
        return known

    def make(self, thing: FeaturesThing, recipe: Pin, tell: Tell) -> Pin:
        """As `Making.make`."""
        from ebbtide.adapters.dvc.aside import reproduced

        there = self.found(thing, recipe)
        if there is not None:
            return there
        with (
            _room(self._state),
            reproduced(
                self._repository(thing),
                recipe.at["commit"],
                stages=[recipe.at["stage"]],
                params=self._params(thing, recipe),
                environment=self.environment(thing),
                state=self._state,
                tell=tell,
                within=thing.within,
            ) as folder,
        ):
            made = self._keep(recipe, folder)
        self._seen[key_of(recipe)] = made
        return made

    def data_of(
        self, thing: FeaturesThing, inputs: str, values: Mapping[str, Any]
    ) -> dict[str, str]:
        """What a pin says of the data that its features were made of."""
        if not thing.tables:
            return {"inputs": inputs}
        versions = versions_of(thing, values)
        prints = {table: self._print(table, version) for table, version in versions.items()}
        known = {table: found for table, found in prints.items() if found}
        return {"inputs": inputs, "tables": text(versions), "fingerprints": text(known)}

    def environment(self, thing: FeaturesThing) -> dict[str, str]:
        """What a pipeline's stages are given beside this process's own environment."""
        return environment_of(thing, self._at, self._tracking_uri)

    def _is_of(self, pin: Pin, recipe: Pin) -> bool:
        """Whether making the recipe could only give the pin's content again."""
        there, wanted = pin.at, recipe.at
        same = all(there.get(key) == wanted[key] for key in ("pipeline", "inputs"))
        if pin.unmade or not (same or there.get("commit") == wanted["commit"]):
            return False
        versions, prints = mapping(there, "tables"), mapping(there, "fingerprints")
        return all(
            (prints.get(table) or self._print(table, versions.get(table, ""))) == found
            for table, found in mapping(wanted, "fingerprints").items()
        )

    def _print(self, table: str, version: str) -> str:
        """Empty where nobody can tell any more: then it is the same as nothing."""
        if self._fingerprint is None or not version:
            return ""
        try:
            return self._fingerprint(table, version)
        except Refused:
            return ""

    def _kept(self, recipe: Pin) -> Pin | None:
        """What the index has of the recipe, where its content is still whole."""
        try:
            record = json.loads(self._record(recipe).read_bytes())
            pin = Pin.from_json(record["pin"]) if record["format"] == _FORMAT else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # Written by something else: it is made again, and written anew.
        if pin is None or pin.name != recipe.name or not self._is_of(pin, recipe):
            return None
        return None if self._faults(pin) else pin

    def _committed(self, thing: FeaturesThing, recipe: Pin) -> Pin | None:
        """The commit's own features, where dvc.lock has them of these very tables."""
        repository, commit, out = self._repository(thing), recipe.at["commit"], recipe.at["out"]
        try:
            output = read_output(repository, commit, out, apart(thing))
            commit, output = last_change(repository, commit, out, output, apart(thing))
            content = digest(self._hashes.contents_of(output.objects, out, commit))
            if not (self._store / content).exists():
                refuse_damaged(output.objects, out, commit)
        except Refused:
            return None
        at = {
            "commit": commit,
            "lock": output.lock,
            "pipeline": output.pipeline,
            "out": out,
            "md5": output.md5,
            **self.data_of(thing, output.inputs, output.values),
            **describe_files({name: file.path for name, file in output.objects.items()}),
        }
        pin = Pin(recipe.name, content, at)
        return pin if self._is_of(pin, recipe) else None

    def _params(self, thing: FeaturesThing, recipe: Pin) -> dict[str, dict[str, Any]]:
        """The tables' versions, of the type that the params file has now."""
        repository, wanted = self._repository(thing), mapping(recipe.at, "tables")
        pipeline = read_pipeline(repository, recipe.at["commit"], thing.out, apart(thing))
        params: dict[str, dict[str, Any]] = {}
        for table, place in thing.tables.items():
            file, key = parameter(place)
            textual = isinstance(pipeline.values[file][key], str)
            params.setdefault(file, {})[key] = wanted[table] if textual else int(wanted[table])
        return params

    def _keep(self, recipe: Pin, folder: Path) -> Pin:
        out = folder / recipe.at["out"]
        if not out.is_dir() or not any(path.is_file() for path in out.rglob("*")):
            raise GateNotPassed(
                f"The pipeline of features `{recipe.name}` ended well and made no features.",
                remedy=f"See what stage `{recipe.at['stage']}` writes to `{recipe.at['out']}`.",
            )
        recorded = _recorded(folder, recipe)
        kept = publish_verified(partial(take, out), self._store, tree_digest(out))
        at = {key: value for key, value in recipe.at.items() if key != "stage"}
        made = {"made_at": str(int(time.time())), **recorded, **describe(kept)}
        pin = Pin(recipe.name, kept.name, {**at, **made})
        record = {"format": _FORMAT, "recipe": dict(recipe.at), "pin": pin.to_json()}
        write_whole(self._record(recipe), canonical(record))
        return pin

    def _record(self, recipe: Pin) -> Path:
        return self._store / "recipes" / f"{key_of(recipe)}.json"

    def _repository(self, thing: FeaturesThing) -> Repository:
        return Repository(self._at(thing.repository))


def _is_whole_record(base: Pin, recipe: Pin) -> bool:
    """Whether a pin tells all that its commit's own dvc.lock can tell of what it was made of.

    Then the commit need not be read to learn that it has not what the recipe asks for.
    """
    own = "made_at" not in base.at and not base.unmade
    wanted, known = mapping(recipe.at, "fingerprints"), mapping(base.at, "fingerprints")
    same = all(base.at.get(key) == recipe.at[key] for key in _OF_THE_COMMIT)
    return own and same and known.keys() == wanted.keys()


def _recorded(folder: Path, recipe: Pin) -> dict[str, str]:
    """What the new dvc.lock says: by it DVC's cache can give the content again.

    DVC trusts a read-only object of its cache, and takes it for the output although it
    was damaged. Raises `GateNotPassed` where a file is not what dvc.lock says.
    """
    lock = folder / posixpath.dirname(recipe.at["stage"].rpartition(":")[0]) / "dvc.lock"
    md5, objects = made_output(folder, recipe.at["out"])
    for path, thing in objects.items():
        if not thing.is_whole(folder / recipe.at["out"] / path):
            raise GateNotPassed(
                f"DVC's object {thing.path} of `{recipe.at['out']}/{path}` is damaged.",
                remedy="Remove it, then order it again: it is computed anew.",
            )
    return {"lock": file_digest(lock), "md5": md5}


@contextmanager
def _room(state: Path) -> "Iterator[None]":
    """Say where room is wanting, in place of an OSError without a file's name."""
    try:
        yield
    except OSError as fault:
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise GateNotPassed(
            f"The disk of {state} is full: features could not be made aside.",
            remedy="Free space, then order it again: nothing half made was kept.",
        ) from fault
