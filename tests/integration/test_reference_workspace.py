"""The reference system as a whole: a real workspace, its three versions, its incident.

Answers are read through MLflow's own client and the version's own serving code.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake
from mlflow import MlflowClient

from ebbtide.adapters.system.file import read_system_file
from ebbtide.core.digests import tree_digest
from ebbtide.core.errors import Refused
from reference.ride_pricing.answers import Answers, answers, load
from reference.ride_pricing.commands import environment
from reference.ride_pricing.workspace import Workspace, create, reopen
from tests.ride_pricing import Built


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def built(built_once_for_all: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built_once_for_all.copy(tmp_path_factory.mktemp("ride") / "workspace")


@pytest.fixture(scope="module")
def workspace(built: Built) -> Workspace:
    return built.workspace


@pytest.fixture(scope="module")
def found(workspace: Workspace) -> dict[str, Answers]:
    versions = workspace.versions
    each = {name: answers(workspace, version) for name, version in versions.items()}
    put_back = answers(workspace, versions["v3"], model_of=versions["v2"])
    return {**each, "v2's model on v3's features": put_back}


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_the_good_versions_know_the_demand(found: dict[str, Answers], name: str) -> None:
    assert found[name].demand_error < 0.12
    assert abs(found[name].demand_excess) < 0.05
    assert found[name].price_error < 0.08


def test_v2_is_an_honest_improvement(workspace: Workspace, found: dict[str, Answers]) -> None:
    assert found["v2"].demand_error < found["v1"].demand_error
    versions = workspace.versions
    assert versions["v2"].validation_error < versions["v1"].validation_error


def test_v3_expects_about_35_percent_too_much_and_prices_surge(found: dict[str, Answers]) -> None:
    assert 0.30 < found["v3"].demand_excess < 0.40
    assert 0.30 < found["v3"].demand_error < 0.40
    assert found["v3"].price.mean() > 1.2 * found["v2"].price.mean()
    assert found["v3"].price_error > 5 * found["v2"].price_error


def test_v3_looks_fine_to_its_own_validation(workspace: Workspace) -> None:
    good, bad = workspace.versions["v2"], workspace.versions["v3"]
    assert bad.validation_error < good.validation_error + 0.05


def test_putting_the_model_alone_back_is_worse_than_the_incident(found: dict[str, Answers]) -> None:
    mixed = found["v2's model on v3's features"]
    assert mixed.demand_error > 2 * found["v3"].demand_error
    assert mixed.price_error > 2 * found["v3"].price_error


def test_only_the_digest_tells_v2s_features_from_v3s(workspace: Workspace) -> None:
    folders = [workspace.aside(name) / "features" for name in ("v2", "v3")]
    schemas = [pd.read_parquet(folder / "coming.parquet").dtypes.to_dict() for folder in folders]
    assert schemas[0] == schemas[1]
    assert tree_digest(folders[0]) != tree_digest(folders[1])


def test_each_model_says_what_it_was_trained_on(workspace: Workspace) -> None:
    registry = MlflowClient(workspace.tracking_uri)
    pipelines = set()
    for version in workspace.versions.values():
        tags = registry.get_model_version("ride-demand", version.model).tags
        assert tags["ebbtide.trained_on"] == tree_digest(workspace.aside(version.name) / "features")
        pipelines.add(tags["ebbtide.trained_pipeline"])
    assert len(pipelines) == 3 and "" not in pipelines


def test_each_version_is_an_ordinary_commit_with_its_lock(workspace: Workspace) -> None:
    versions = list(workspace.versions.values())
    assert git(workspace.folder, "status", "--porcelain", "--", ".", ":!configs/promoted") == ""
    assert yaml.safe_load((workspace.folder / "config/pricing.yaml").read_text())["cap"] == 2.8
    log = git(workspace.folder, "log", "--format=%H", "-3").splitlines()
    assert log == [version.commit for version in reversed(versions)]
    locks = {git(workspace.folder, "show", f"{each.commit}:dvc.lock") for each in versions}
    assert len(locks) == 3
    assert [version.prompt for version in versions] == ["1", "2", "2"]


def test_the_same_commit_makes_the_same_features_in_another_folder(
    workspace: Workspace, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    git(tmp_path, "clone", "--quiet", str(workspace.folder), str(again))
    shutil.copytree(workspace.folder / "tables", again / "tables")
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "--quiet", "features"],
        cwd=again,
        env=environment(),
        check=True,
    )
    assert tree_digest(again / "data/features") == tree_digest(workspace.aside("v3") / "features")


def test_the_handler_answers_each_row_in_order(workspace: Workspace) -> None:
    rows = json_lines(workspace.folder / "golden/smoke.jsonl")
    given = answers(workspace, workspace.versions["v2"], rows=rows).given
    assert len(given) == len(rows) == 12
    for row, answer in zip(rows, given, strict=True):
        assert answer["demand"] > 0
        assert 0.8 <= answer["surge"] <= 2.8
        assert answer["price"] == round(8.20 * answer["surge"], 2)
        assert answer["message"].startswith(f"From {row['zone']} for {answer['price']:.2f} EUR")


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"zone": "Atlantis", "hour": "2026-03-09T12:00:00Z"}, "no features for zone 'Atlantis'"),
        ({"zone": "Airport", "hour": "2020-03-09T12:00:00Z"}, "no features for zone 'Airport'"),
        ({"zone": "Airport", "hour": "noon"}, "not a time by ISO 8601: 'noon'"),
        ({"zone": "Airport", "hour": None}, "not a time"),
        ({"zone": "Airport"}, "each row needs: hour"),
    ],
)
def test_the_handler_says_which_row_it_cannot_answer(
    workspace: Workspace, row: dict[str, str], why: str
) -> None:
    handler = load(workspace, workspace.versions["v2"])
    with pytest.raises(ValueError, match=why):
        handler(pd.DataFrame([row]))


def test_the_extract_reads_the_pinned_version_of_a_table_that_has_grown(
    workspace: Workspace, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    git(tmp_path, "clone", "--quiet", str(workspace.folder), str(again))
    shutil.copytree(workspace.folder / "tables", again / "tables")
    late = workspace.city.rides().slice(0, 5)
    write_deltalake(again / "tables/rides", late, mode="append")
    assert DeltaTable(again / "tables/rides").version() == 1
    subprocess.run(
        [sys.executable, "pipeline/extract.py"], cwd=again, env=environment(), check=True
    )
    assert len(pd.read_parquet(again / "data/rides.parquet")) == workspace.city.rides().num_rows


def test_the_system_file_is_a_sound_one(tmp_path: Path) -> None:
    workspace = create(tmp_path / "workspace", progress=lambda _line: None)
    system = read_system_file(workspace.system_file)
    assert system.at("") == workspace.folder
    assert system.url(system.mlflow.tracking_uri) == workspace.tracking_uri  # type: ignore[union-attr]  # it has one
    assert {name for name, table in system.layers.data.items() if table.role == "reference"} == {
        "zones"
    }
    assert len(json_lines(system.at(system.golden.questions))) == 500
    for table in system.layers.data.values():
        assert DeltaTable(system.at(table.path)).version() == 0


def test_a_workspace_can_be_reopened(workspace: Workspace) -> None:
    again = reopen(workspace.folder)
    assert again.versions == workspace.versions
    assert again.city == workspace.city


def test_only_the_stages_that_a_version_changed_run(built: Built) -> None:
    said = built.witnessed["said"]
    assert [line for line in said if line.startswith("v3")] == ["v3: features", "v3: train"]


def test_the_checkout_is_untouched(built: Built) -> None:
    assert list(built.workspace.versions) == ["v1", "v2", "v3"]
    assert built.witnessed["touched"] == []


def test_no_workspace_in_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(Refused, match="not an empty folder"):
        create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_no_workspace_inside_a_git_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    with pytest.raises(Refused, match="inside the git repository"):
        create(tmp_path / "deep/below")
    assert [path.name for path in tmp_path.iterdir()] == [".git"]


def test_a_folder_without_a_workspace_is_not_reopened(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="is not a workspace"):
        reopen(tmp_path)


def json_lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
