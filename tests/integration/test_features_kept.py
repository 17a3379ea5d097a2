"""Features that a pin keeps: whole, of the recorded content, and had again from DVC's cache."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ebbtide.adapters.dvc import contents
from ebbtide.adapters.dvc.contents import describe
from ebbtide.adapters.dvc.features import Features
from ebbtide.core.errors import (
    NotRestorable,
    Refused,
)
from ebbtide.core.release import Pin
from tests.integration.features_repository import (  # noqa: F401 - fixtures
    commits,
    demand,
    features,
    object_of,
    objects,
    repository,
    template,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

# DVC 3.67 still uses what pygtrie is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")


def test_kept_features_are_read_only_and_share_nothing_with_the_cache(
    features: Features, repository: Path
) -> None:
    pin = features.pin("demand")
    files = [path for path in features.path(pin).rglob("*") if path.is_file()]
    assert not [path for path in files if path.stat().st_mode & 0o222]
    assert not {path.stat().st_ino for path in files} & {
        path.stat().st_ino for path in objects(repository)
    }
    shutil.rmtree(repository)
    assert features.problems(pin) == []


def test_large_features_are_linked_to_the_cache(
    features: Features, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "LARGEST_COPY", 10)
    file = features.path(features.pin("demand")) / "made.txt"
    assert file.stat().st_ino == object_of(repository, b"made").stat().st_ino


def test_missing_features_are_prepared_again_from_the_cache(
    features: Features, commits: dict[str, str]
) -> None:
    pin = features.pin("demand", commits["first"])
    shutil.rmtree(features.path(pin))
    assert features.problems(pin) == []
    features.prepare(pin)
    features.prepare(pin)
    assert demand(features.path(pin)) == [2.0, 4.0]


def test_a_missing_object_is_named(features: Features, repository: Path) -> None:
    pin = features.pin("demand")
    lost = object_of(repository, b"made")
    lost.unlink()
    assert features.problems(pin) == []
    shutil.rmtree(features.path(pin))
    (problem,) = features.problems(pin)
    assert str(lost) in problem
    assert "features/made.txt" in problem
    assert "dvc pull" in problem
    for again in (lambda: features.prepare(pin), lambda: features.pin("demand")):
        with pytest.raises(NotRestorable, match=r"made\.txt"):
            again()
    assert not features.path(pin).exists()


def test_a_missing_list_of_files_is_named(features: Features, repository: Path) -> None:
    md5 = features.pin("demand").at["md5"]
    lost = next(path for path in objects(repository) if path.name == md5[2:])
    lost.unlink()
    with pytest.raises(NotRestorable, match=md5[2:]):
        features.pin("demand")


def test_a_damaged_object_is_named_and_nothing_is_kept(
    features: Features, repository: Path, tmp_path: Path
) -> None:
    damaged = object_of(repository, b"made")
    damaged.chmod(0o644)
    damaged.write_bytes(b"mode")
    with pytest.raises(NotRestorable, match=damaged.name):
        features.pin("demand")
    assert not (tmp_path / "state" / "releases").exists()


def test_an_object_damaged_after_the_pin_is_a_problem(features: Features, repository: Path) -> None:
    pin = features.pin("demand")
    shutil.rmtree(features.path(pin))
    damaged = object_of(repository, b"made")
    damaged.chmod(0o644)
    damaged.write_bytes(b"mode")
    assert "another content" in features.problems(pin)[0]
    with pytest.raises(NotRestorable):
        features.prepare(pin)
    assert not features.path(pin).exists()


def test_a_changed_byte_in_kept_features_is_found_and_left_as_evidence(
    features: Features,
) -> None:
    pin = features.pin("demand")
    file = features.path(pin) / "made.txt"
    file.chmod(0o644)
    file.write_bytes(b"mode")
    assert features.problems(pin) == [f"{file} was changed."]
    with pytest.raises(NotRestorable, match=r"made\.txt was changed"):
        features.prepare(pin)
    assert file.read_bytes() == b"mode"


def test_a_file_too_many_or_too_few_is_found(features: Features) -> None:
    pin = features.pin("demand")
    (features.path(pin) / "extra.txt").write_text("extra")
    (features.path(pin) / "made.txt").unlink()
    problems = " ".join(features.problems(pin))
    assert "made.txt is missing" in problems
    assert "extra.txt does not belong there" in problems


def test_changes_are_found_without_the_repository_too(features: Features, repository: Path) -> None:
    pin = features.pin("demand")
    (features.path(pin) / "extra.txt").write_text("extra")
    shutil.rmtree(repository / ".dvc" / "cache")
    assert "changed" in features.problems(pin)[0]


def test_a_commit_that_is_gone_is_a_problem(features: Features) -> None:
    pin = features.pin("demand")
    gone = Pin("demand", "0" * 64, {**pin.at, "commit": "0" * 40})
    assert "commit 0000000000 is gone" in features.problems(gone)[0]
    with pytest.raises(NotRestorable, match="is gone"):
        features.prepare(gone)


def test_a_file_that_is_parquet_only_by_name_is_refused(tmp_path: Path) -> None:
    assert describe(tmp_path) == {"schema": "", "rows": "0"}
    pq.write_table(pa.table({"b": [1], "a": ["x"]}), tmp_path / "one.parquet")
    assert describe(tmp_path) == {
        "schema": '[{"name":"a","type":"string"},{"name":"b","type":"int64"}]',
        "rows": "1",
    }
    (tmp_path / "two.parquet").write_text("no parquet")
    with pytest.raises(Refused, match=r"two\.parquet"):
        describe(tmp_path)


def test_a_build_that_fails_leaves_nothing(
    features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy: Callable[..., object] = shutil.copyfile
    left = [1]

    def until_full(*places: object) -> None:
        if not left:
            raise OSError(28, "No space left on device")
        left.pop()
        copy(*places)

    monkeypatch.setattr(shutil, "copyfile", until_full)
    with pytest.raises(OSError, match="No space"):
        features.pin("demand")
    assert list((tmp_path / "state" / "releases").iterdir()) == []
