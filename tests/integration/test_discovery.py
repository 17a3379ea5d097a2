"""What of a system can be found, in real repositories, tables and registries."""

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from ebbtide.adapters.discovery.places import Discovery, Source, discover
from ebbtide.adapters.discovery.repository import is_ignored, likely_features
from ebbtide.adapters.discovery.stores import portable, tables_below, without_password
from ebbtide.adapters.discovery.tree import Limits, look
from tests.integration import discovery_places as places

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")


def seen(root: Path, **options: Any) -> Discovery:
    return discover(root, root / "configs/systems", **options)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("found") / "shop"
    places.whole(folder)
    return folder


@pytest.fixture(scope="module")
def found(system: Path) -> Discovery:
    before = places.git(system, "status", "--porcelain", "--ignored")
    found = seen(system)
    assert places.git(system, "status", "--porcelain", "--ignored") == before
    return found


def test_a_whole_system_is_found_without_a_trouble(found: Discovery) -> None:
    assert found.troubles == ()
    assert found.registry is not None
    assert (found.registry.tracking_uri, found.registry.problem) == ("sqlite:///mlflow.db", "")
    assert [model.name for model in found.registry.models] == ["demand"]
    assert [prompt.name for prompt in found.registry.prompts] == ["greeting"]
    assert [table.path for table in found.tables] == ["tables/rides", "tables/zones"]
    assert [(each.path, each.standing) for each in found.config] == [("config", "committed")]
    assert [(each.path, each.handler) for each in found.serving] == [("serving", "handler.py")]
    assert [(each.questions, each.smoke) for each in found.golden] == [
        ("golden/questions.jsonl", "golden/smoke.jsonl")
    ]


def test_the_features_are_told_from_other_outputs_by_their_parquet_files(found: Discovery) -> None:
    outs = {out.path: (out.stage, out.is_folder, out.parquet) for out in found.outs}
    assert outs == {
        "data/features": ("build", True, 1),
        "data/models": ("clean", True, 0),
        "data/named": ("build", True, 0),
        "data/clean.csv": ("clean", False, 0),
    }
    assert [out.path for out in likely_features(found.outs)] == ["data/features"]


def test_a_table_that_the_serving_code_names_is_read_live(found: Discovery) -> None:
    live = {table.path: found.is_read_live(table) for table in found.tables}
    assert live == {"tables/rides": False, "tables/zones": True}


def test_an_output_that_was_never_made_is_found_in_the_pipeline(tmp_path: Path) -> None:
    places.write(tmp_path / ".dvc/config", "")
    places.write(tmp_path / "dvc.yaml", places.PIPELINE)
    assert {(out.path, out.is_folder) for out in seen(tmp_path).outs} == {
        ("data/features", True),
        ("data/models", True),
        ("data/clean.csv", False),
    }


@pytest.mark.parametrize(
    "text", ["stages: [", "- a\n", "stages: {a: 1, b: {outs: 7}}", "", "\x00", "x: " + "[" * 5000]
)
def test_a_pipeline_that_cannot_be_read_stops_nothing(tmp_path: Path, text: str) -> None:
    places.write(tmp_path / ".dvc/config", "")
    places.write(tmp_path / "dvc.yaml", text)
    places.delta(tmp_path / "tables/rides")
    found = seen(tmp_path)
    assert found.outs == () and [table.path for table in found.tables] == ["tables/rides"]


def test_a_folder_inside_of_a_repository_finds_what_is_around_it(system: Path) -> None:
    inner = system / "services" / "pricing"
    places.write(inner / "conf/app.toml", "a = 1\n")
    try:
        found = seen(inner)
    finally:
        (inner / "conf/app.toml").unlink()
    assert found.git == "../.."
    assert [(each.repository, each.path, each.standing) for each in found.config] == [
        ("../..", "services/pricing/conf", "not committed yet")
    ]


def test_changed_and_ignored_configuration_is_told_apart(tmp_path: Path) -> None:
    places.git(tmp_path, "init", "--quiet")
    for name in ("config", "settings", "conf"):
        places.write(tmp_path / name / "app.yaml", "a: 1\n")
    places.write(tmp_path / ".gitignore", "/settings/\n/live/\n")
    places.git(tmp_path, "add", "config")
    places.git(tmp_path, "commit", "--quiet", "--message", "First")
    places.write(tmp_path / "config/app.yaml", "a: 2\n")
    assert {(each.path, each.standing) for each in seen(tmp_path).config} == {
        ("config", "has uncommitted changes"),
        ("conf", "not committed yet"),
    }
    assert is_ignored(tmp_path / "live/x") and not is_ignored(tmp_path / ".ebbtide/x")


def test_configuration_outside_of_git_has_no_versions_and_is_said(tmp_path: Path) -> None:
    places.write(tmp_path / "config/app.yaml", "a: 1\n")
    found = seen(tmp_path)
    assert found.config == () and "in no git repository" in found.troubles[0].why


def test_the_folder_of_system_files_is_no_configuration_of_a_system(tmp_path: Path) -> None:
    places.git(tmp_path, "init", "--quiet")
    places.write(tmp_path / "configs/app.yaml", "a: 1\n")
    places.write(tmp_path / "configs/systems/shop.yaml", "system: shop\n")
    assert seen(tmp_path).config == ()


def test_a_registry_that_is_away_is_told_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
        start = time.monotonic()
        found = seen(tmp_path, mlflow=Source(uri, "--mlflow"), redis=Source(uri, "--redis"))
    assert found.registry is not None and "cannot be reached" in found.registry.problem
    assert found.cache is not None and not found.cache.answers
    assert time.monotonic() - start < 30


def test_a_missing_database_is_told_and_not_made(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    found = seen(tmp_path, mlflow=Source(uri, "MLFLOW_TRACKING_URI"))
    assert found.registry is not None and found.registry.problem
    assert not (tmp_path / "other.db").exists()


def test_a_file_store_is_told_with_the_way_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    registry = seen(tmp_path).registry
    assert registry is not None and "migrate-filestore" in registry.problem


def test_a_database_of_something_else_is_no_registry(tmp_path: Path) -> None:
    places.write(tmp_path / "mlflow.db", "no database")
    assert seen(tmp_path).registry is None


def test_a_broken_table_is_said_and_the_others_are_found(tmp_path: Path) -> None:
    places.delta(tmp_path / "tables/rides")
    places.write(tmp_path / "tables/broken/_delta_log/00000000000000000000.json", "{")
    found = seen(tmp_path)
    assert [table.path for table in found.tables] == ["tables/rides"]
    assert [trouble.place for trouble in found.troubles] == ["tables/broken"]


def test_tables_are_found_below_a_place_outside_and_below_a_prefix_of_a_store(
    tmp_path: Path,
) -> None:
    root, lake = tmp_path / "shop", tmp_path / "lake"
    root.mkdir()
    places.delta(lake / "raw/rides")
    found = seen(root, below=["../lake"])
    assert [table.path for table in found.tables] == ["../lake/raw/rides"]
    tables, troubles = tables_below(lake.as_uri(), root)
    assert [table.path for table in tables] == [f"{lake.as_uri()}/raw/rides"] and not troubles
    for uri in ("gopher://nowhere/x", (tmp_path / "missing").as_uri()):
        tables, troubles = tables_below(uri, root)
        assert not tables and "cannot be listed" in troubles[0].why


def test_the_look_stops_at_its_limits_and_says_so(tmp_path: Path) -> None:
    for branch in ("a", "b"):
        (tmp_path / branch / "c" / "d").mkdir(parents=True)
    (tmp_path / ".git/x").mkdir(parents=True)
    (tmp_path / "env/lib").mkdir(parents=True)
    places.write(tmp_path / "own/pyvenv.cfg", "")
    shallow = look(tmp_path, Limits(depth=1))
    assert {path.name for path in shallow.folders} == {tmp_path.name, "a", "b"}
    assert "2 folders deeper than 1" in shallow.troubles[0].why
    assert "not looked at" in look(tmp_path, Limits(entries=3)).troubles[-1].why
    assert "not looked at" in look(tmp_path, Limits(seconds=-1)).troubles[-1].why
    assert look(tmp_path).troubles == ()


def test_links_and_unreadable_folders_are_passed_by_and_said(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "locked").mkdir(parents=True)
    (root / "loop").symlink_to(root)
    (root / "out").symlink_to(tmp_path)
    (root / "locked").chmod(0)
    try:
        troubles = {Path(each.place).name: each.why for each in look(root).troubles}
        assert "not followed" in troubles["out"] and "loop" not in troubles
        may_read = os.access(root / "locked", os.R_OK)  # root may read everything
        assert may_read or "Permission denied" in troubles["locked"]
    finally:
        (root / "locked").chmod(0o755)


def test_a_folder_that_goes_away_is_said(tmp_path: Path) -> None:
    assert "cannot be read" in look(tmp_path / "gone").troubles[0].why


def test_a_uri_is_made_relative_only_below_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert portable(f"sqlite:///{tmp_path}/a/m.db", tmp_path) == "sqlite:///a/m.db"
    assert portable("sqlite:///m.db", tmp_path) == "sqlite:///m.db"
    assert portable("sqlite:////other/m.db", tmp_path) == "sqlite:////other/m.db"
    assert portable("http://host:5000", tmp_path) == "http://host:5000"
    assert without_password("redis://me:secret@host:6379/0") == "redis://host:6379/0"
    assert without_password("redis://host:6379/0") == "redis://host:6379/0"
