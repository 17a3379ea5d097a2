"""The bytes of a registered model: where they are, what they are, what they promise."""

import json
import shutil
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ebbtide.adapters.disk.files import scratch, stray_links
from ebbtide.adapters.disk.sizes import sizes
from ebbtide.adapters.mlflow.registry import Registry, absent_as_none
from ebbtide.core.digests import canonical, digest, tree
from ebbtide.core.errors import NotRestorable, Refused

# MLflow writes this file into the store itself when anybody loads the version by
# its name: it is not of the model, and would look like a change of its bytes.
_LOADED_MARK = "registered_model_meta"
NO_SIGNATURE = {"signature": "", "inputs": ""}


@dataclass(frozen=True, slots=True)
class Content:
    """What a folder of artifacts holds."""

    digest: str
    facts: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, known: MutableMapping[str, "Content"]) -> "Content":
        """What is there now. `known`, by digest, spares reading a signature again."""
        found = content_digest(folder)
        if found not in known:
            known[found] = cls(found, _signature(folder))
        return known[found]


@contextmanager
def artifacts(registry: Registry, client: Any, version: Any, aside: Path) -> Iterator[Path]:
    """The version's artifacts: in place on this disk, else downloaded below `aside` for a while.

    Raises `NotRestorable` where they are missing, `Refused` where a path leads astray.
    """
    what = f"{version.name} version {version.version}"
    location = _location(client, version, what)
    local = _local(location)
    if local is not None:
        yield _whole(local, what)
        return
    with scratch(aside / "download") as folder:
        yield _whole(_download(registry, location, folder), what)


def _download(registry: Registry, location: str, to: Path) -> Path:
    """What is at the location, below `to`; a folder that does not exist where nothing is."""
    from mlflow.artifacts import download_artifacts, list_artifacts

    # A download tells a missing folder and a broken server by the same error.
    tracking = registry.tracking_uri
    if not absent_as_none(lambda: list_artifacts(artifact_uri=location, tracking_uri=tracking)):
        return to / "nothing"
    return Path(
        download_artifacts(
            artifact_uri=location,
            dst_path=str(to),
            tracking_uri=tracking,
            registry_uri=registry.registry_uri,
        )
    )


def listed(registry: Registry, client: Any, version: Any) -> dict[str, int | None]:
    """Bytes of each of the version's artifacts, by its path; None where the store does not tell.

    Reads none of them. Raises `NotRestorable` where there are none.
    """
    what = f"{version.name} version {version.version}"
    location = _location(client, version, what)
    local = _local(location)
    found: dict[str, int | None]
    found = dict(_listed(registry, location) if local is None else sizes(local))
    found.pop(_LOADED_MARK, None)
    if not found:
        raise NotRestorable(f"{what}: its artifacts are missing.")
    return found


def _listed(
    registry: Registry, location: str, inside: str = ""
) -> Iterator[tuple[str, int | None]]:
    from mlflow.artifacts import list_artifacts

    tracking = registry.tracking_uri
    found = absent_as_none(lambda: list_artifacts(artifact_uri=location, tracking_uri=tracking))
    for each in found or ():
        name = PurePosixPath(each.path).name  # MLflow's path begins with the location's own name
        if each.is_dir:
            yield from _listed(registry, f"{location}/{name}", f"{inside}{name}/")
        else:
            yield f"{inside}{name}", each.file_size


def model_id_of(version: Any) -> str:
    """Of the logged model; the registry itself leaves it out, the source names it."""
    if version.model_id:
        return str(version.model_id)
    scheme, _, rest = (version.source or "").partition(":/")
    return rest if scheme == "models" and rest.startswith("m-") else ""


def _location(client: Any, version: Any, what: str) -> str:
    model_id = model_id_of(version)
    if model_id:
        logged = absent_as_none(lambda: client.get_logged_model(model_id))
        if logged is None:
            raise NotRestorable(f"{what}: its logged model {model_id} was deleted.")
        location = str(logged.artifact_location)
    else:
        location = str(client.get_model_version_download_uri(version.name, version.version))
    plain = unquote(unquote(location))
    if ".." in PurePosixPath(plain).parts or "#" in plain:
        raise Refused(f"{what}: its artifacts' location `{location}` leads astray.")
    return location


def _local(location: str) -> Path | None:
    parts = urlsplit(location)
    if not parts.scheme:
        return Path(location)
    if parts.scheme == "file" and parts.hostname in (None, "localhost"):
        return Path(unquote(parts.path))
    return None


def _whole(folder: Path, what: str) -> Path:
    """The folder, known to hold files, all of them its own."""
    if not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*")):
        raise NotRestorable(f"{what}: its artifacts are missing.")
    strays = stray_links(folder)
    if strays:
        raise Refused(
            f"{what}: its artifacts hold links that lead out of them: {', '.join(strays[:5])}."
        )
    return folder


def _files(folder: Path) -> dict[str, str]:
    return {path: found for path, found in tree(folder).items() if path != _LOADED_MARK}


def content_digest(folder: Path) -> str:
    """The `tree_digest` that the folder has without MLflow's own mark."""
    return digest(_files(folder))


def copy(folder: Path, to: Path) -> None:
    for path in _files(folder):
        (to / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, to / path)


def _signature(folder: Path) -> dict[str, str]:
    """Digest of the signature, and its inputs as JSON; read from MLmodel, nothing is loaded."""
    from mlflow.models import Model

    try:
        signature = Model.load(str(folder)).signature
    except Exception as fault:  # what a damaged file makes MLflow raise is not told anywhere
        raise NotRestorable(f"{folder / 'MLmodel'} cannot be read: {fault}") from fault
    if signature is None:
        return dict(NO_SIGNATURE)
    parts = {part: json.loads(text) if text else None for part, text in signature.to_dict().items()}
    columns = [
        {"name": column.get("name", ""), "type": _type_of(column)}
        for column in parts["inputs"] or ()
    ]
    return {"signature": digest(parts), "inputs": canonical(columns).decode()}


def _type_of(column: Mapping[str, Any]) -> Any:
    """`double`, `string`, ...; for a tensor its dtype and shape, for nested types all of it."""
    if column["type"] == "tensor":
        return column["tensor-spec"]
    nested = {key: column[key] for key in ("items", "properties", "values") if key in column}
    return {"type": column["type"], **nested} if nested else column["type"]
