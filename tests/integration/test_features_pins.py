"""What a pin of features says, and from which commit; outcomes are read with git and pyarrow."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ebbtide.adapters.dvc.features import Features
from ebbtide.core.errors import (
    FloatingReference,
    Refused,
)
from tests.integration.features_repository import (  # noqa: F401 - fixtures
    CLEAN,
    commit,
    commits,
    demand,
    features,
    repository,
    reproduce,
    run,
    snapshot,
    template,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

# DVC 3.67 still uses what pygtrie is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")


def test_a_pin_keeps_the_features_of_its_commit(
    features: Features, commits: dict[str, str], tmp_path: Path
) -> None:
    pin = features.pin("demand", commits["first"][:7])
    folder = tmp_path / "state" / "releases" / pin.digest
    assert features.path(pin) == folder
    assert demand(folder) == [2.0, 4.0]
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "made.txt",
        "monday.parquet",
        "zones.parquet",
    ]


def test_a_pin_says_where_its_features_come_from(
    features: Features, commits: dict[str, str], repository: Path
) -> None:
    pin = features.pin("demand", commits["fresh"])
    lock = subprocess.run(
        ["git", "-C", str(repository), "show", f"{commits['fresh']}:dvc.lock"],
        capture_output=True,
        check=True,
    ).stdout
    assert pin.at["commit"] == commits["fresh"]
    assert pin.at["lock"] == hashlib.sha256(lock).hexdigest()
    assert pin.at["md5"] == yaml.safe_load(lock)["stages"]["build"]["outs"][0]["md5"]
    assert pin.at["rows"] == "4"
    assert {each["name"]: each["type"] for each in json.loads(pin.at["schema"])} == {
        "demand": "double | int64",
        "zone": "string",
    }


def test_nothing_asked_for_pins_the_checked_out_commit(
    features: Features, commits: dict[str, str]
) -> None:
    assert features.pin("demand") == features.pin("demand", commits["tuned"])


def test_the_same_features_of_another_commit_are_the_same_pin(
    features: Features, commits: dict[str, str]
) -> None:
    first = features.pin("demand", commits["first"])
    assert features.pin("demand", commits["same"]) == first
    assert first.at["commit"] == commits["first"]


def test_another_stage_of_the_same_lock_does_not_make_another_pin(
    features: Features, commits: dict[str, str], repository: Path
) -> None:
    before = features.pin("demand")
    lock = yaml.safe_load((repository / "dvc.lock").read_text())
    for hours in ("1", "2"):
        lock["stages"]["other"] = {"cmd": f"sleep {hours}"}
        (repository / "dvc.lock").write_text(yaml.safe_dump(lock))
        commit(repository, f"another stage, {hours}")
    assert features.pin("demand") == before
    assert before.at["commit"] == commits["tuned"]


def test_a_lock_that_was_committed_before_its_code_is_pinned_with_its_code(
    features: Features, repository: Path
) -> None:
    (repository / "code" / "clean.py").write_text(CLEAN + "# clearer\n")
    reproduce(repository)
    run(repository, "git", "add", "dvc.lock")
    run(repository, "git", "-c", "user.name=A", "-c", "user.email=a@example.org", "commit",
        "--quiet", "--message", "the lock alone")  # fmt: skip
    whole = commit(repository, "its code")
    (repository / "words.md").write_text("Other words.")
    commit(repository, "words")
    assert features.pin("demand").at["commit"] == whole


def test_new_data_is_the_same_pipeline_with_other_features(
    features: Features, commits: dict[str, str]
) -> None:
    first, fresh, tuned = (features.pin("demand", commits[n]) for n in ("first", "fresh", "tuned"))
    assert first.at["pipeline"] == fresh.at["pipeline"] != tuned.at["pipeline"]
    assert len({first.digest, fresh.digest, tuned.digest}) == 3


@pytest.mark.parametrize("file", ["code/clean.py", "code/shared/zones.py", "dvc.yaml"])
def test_changed_code_of_any_stage_is_another_pipeline(
    features: Features, repository: Path, file: str
) -> None:
    before = features.pin("demand")
    text = (repository / file).read_text()
    (repository / file).write_text(text.replace("code/clean.py\n", "code/clean.py 1\n") + "\n# .\n")
    reproduce(repository)
    commit(repository, "changed")
    after = features.pin("demand")
    assert after.at["pipeline"] != before.at["pipeline"]
    assert after.digest == before.digest


def test_pinning_and_preparing_leave_the_checkout_as_it_was(
    features: Features, commits: dict[str, str], repository: Path, tmp_path: Path
) -> None:
    (repository / "draft.txt").write_text("not committed")
    run(repository, "git", "add", "draft.txt")
    shutil.rmtree(repository / ".dvc" / "tmp", ignore_errors=True)
    status = run(repository, "git", "status", "--porcelain")
    before = snapshot(repository)
    pin = features.pin("demand", commits["first"])
    features.pin("demand")
    shutil.rmtree(tmp_path / "state")
    features.problems(pin)
    features.prepare(pin)
    assert snapshot(repository) == before
    assert run(repository, "git", "status", "--porcelain") == status
    assert not (repository / ".dvc" / "tmp").exists()


@pytest.mark.parametrize("ask", ["main", "v1", "HEAD", "HEAD~1", "@"])
def test_a_floating_reference_is_refused_and_its_commit_told(
    features: Features, repository: Path, ask: str
) -> None:
    today = run(repository, "git", "rev-parse", f"{ask}^{{commit}}")
    with pytest.raises(FloatingReference, match=today):
        features.pin("demand", ask)


@pytest.mark.parametrize("ask", ["--help", "-n", "--upload-pack=touch x", "a b", "$(touch x)"])
def test_a_reference_is_never_taken_for_an_option(features: Features, ask: str) -> None:
    with pytest.raises(FloatingReference):
        features.pin("demand", ask)


@pytest.mark.parametrize("file", ["dvc.yaml", "dvc.lock", "params.yaml", "code/shared/zones.py"])
def test_an_uncommitted_change_of_the_pipeline_is_refused(
    features: Features, commits: dict[str, str], repository: Path, file: str
) -> None:
    with (repository / file).open("a") as changed:
        changed.write("\n")
    with pytest.raises(Refused, match=file):
        features.pin("demand")
    assert features.pin("demand", commits["tuned"])


@pytest.mark.parametrize("file", ["code/build.py", "code/shared/zones.py", "params.yaml"])
def test_a_lock_older_than_its_pipeline_is_refused(
    features: Features, repository: Path, file: str
) -> None:
    text = (repository / file).read_text()
    (repository / file).write_text(text.replace("3.0", "4.0") + "\n# changed\n")
    commit(repository, "not reproduced")
    where = file.removesuffix("/zones.py")
    with pytest.raises(Refused, match=rf"{where}|the command of `build`"):
        features.pin("demand")
