"""Where a repository may be, which outputs of it are features, and which lead out of it."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from ebbtide.adapters.dvc.features import Features
from ebbtide.adapters.system.file import FeaturesThing
from ebbtide.core.errors import (
    BadConfiguration,
    Refused,
    Unknown,
    Unreachable,
)
from tests.integration.features_repository import (  # noqa: F401 - fixtures
    commit,
    commits,
    demand,
    features,
    repository,
    run,
    template,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

# DVC 3.67 still uses what pygtrie is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")


def test_an_output_that_no_stage_makes_is_unknown(features: Features, tmp_path: Path) -> None:
    for out in ("nowhere", "data/raw.txt"):
        thing = FeaturesThing(repository="pricing", out=out, link="live/features")
        other = Features(tmp_path / "state", {"demand": thing}, lambda path: tmp_path / path)
        with pytest.raises(Unknown, match="features"):
            other.pin("demand")
    with pytest.raises(Unknown, match="demand"):
        features.pin("supply")


def test_an_output_that_is_one_file_is_refused(tmp_path: Path, repository: Path) -> None:
    thing = FeaturesThing(repository="pricing", out="clean.txt", link="live/features")
    with pytest.raises(Refused, match="one file"):
        Features(tmp_path / "state", {"demand": thing}, lambda path: tmp_path / path).pin("demand")


@pytest.mark.parametrize("out", ["../features", "/etc", "a/../../b", ""])
def test_an_output_outside_the_repository_is_refused(tmp_path: Path, out: str) -> None:
    thing = FeaturesThing(repository="pricing", out=out, link="live/features")
    with pytest.raises(BadConfiguration, match="leads out"):
        Features(tmp_path / "state", {"demand": thing}, lambda path: tmp_path / path)


def test_an_output_linked_out_of_the_repository_is_refused(
    features: Features, repository: Path, tmp_path: Path
) -> None:
    shutil.rmtree(repository / "features")
    (repository / "features").symlink_to(tmp_path)
    with pytest.raises(Refused, match="leads out"):
        features.pin("demand")


def test_a_list_of_files_that_leads_out_of_the_folder_is_refused(
    features: Features, repository: Path, tmp_path: Path
) -> None:
    md5 = hashlib.md5(b"made").hexdigest()
    listed = json.dumps([{"md5": md5, "relpath": "../../escaped.txt"}]).encode()
    name = hashlib.md5(listed).hexdigest()
    forged = repository / ".dvc/cache/files/md5" / name[:2] / f"{name[2:]}.dir"
    forged.parent.mkdir(exist_ok=True)
    forged.write_bytes(listed)
    lock = (repository / "dvc.lock").read_text()
    old = yaml.safe_load(lock)["stages"]["build"]["outs"][0]["md5"]
    (repository / "dvc.lock").write_text(lock.replace(old, f"{name}.dir"))
    commit(repository, "forged")
    with pytest.raises(Refused, match="escaped"):
        features.pin("demand")
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize("place", ["outside", "../shared"])
def test_a_shared_cache_is_found(
    features: Features, repository: Path, tmp_path: Path, place: str
) -> None:
    shared = tmp_path / "shared"
    shutil.move(repository / ".dvc" / "cache", shared)
    given = str(shared) if place == "outside" else place
    run(repository, sys.executable, "-m", "dvc", "cache", "dir", given)
    commit(repository, "shared cache")
    assert demand(features.path(features.pin("demand"))) == [3.0, 6.0, 12.0]


def test_a_repository_in_a_folder_of_a_larger_one_is_read(template: Path, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    shutil.copytree(template, tmp_path / "large" / "pricing", ignore=shutil.ignore_patterns(".git"))
    run(tmp_path / "large", "git", "init", "--quiet")
    head = commit(tmp_path / "large", "all")
    thing = FeaturesThing(repository="large/pricing", out="features", link="live")
    layer = Features(tmp_path / "state", {"demand": thing}, lambda path: tmp_path / path)
    pin = layer.pin("demand")
    assert pin.at["commit"] == head
    (tmp_path / "large" / "words.md").write_text("Words.")
    commit(tmp_path / "large", "words")
    assert layer.pin("demand") == pin
    assert demand(layer.path(pin)) == [3.0, 6.0, 12.0]


def test_a_folder_without_a_repository_is_told_apart(features: Features, repository: Path) -> None:
    shutil.rmtree(repository / ".dvc")
    with pytest.raises(Unknown, match="no DVC repository"):
        features.pin("demand")
    shutil.rmtree(repository / ".git")
    with pytest.raises(Unreachable):
        features.pin("demand")
