"""Features made again by an earlier pipeline: real git, DVC and Delta.

Outcomes are read with git, pyarrow and plain file reading.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable

from ebbtide.adapters.dvc.aside import reproduced
from ebbtide.adapters.dvc.lock import read_output
from ebbtide.adapters.git.repository import Repository
from ebbtide.adapters.system.file import Layers
from ebbtide.core.errors import (
    BadConfiguration,
    FloatingReference,
    GateNotPassed,
    NotRestorable,
    Refused,
    Unknown,
)
from ebbtide.core.release import Pin, Release
from tests.integration.features_site import (  # noqa: F401 - fixtures
    PIPELINE,
    Site,
    commit,
    demand,
    params,
    run,
    silent,
    site,
    template,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

# DVC 3.67 still uses what pygtrie is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")


def snapshot(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Every file but DVC's cache, with its bytes, mode and time: what must not change."""
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes(),
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file() and ".dvc/cache" not in path.as_posix()
    }


def test_an_earlier_pipeline_makes_features_of_the_tables_now(site: Site) -> None:
    (site.repository / "draft.txt").write_text("in no commit")
    run(site.repository, "git", "add", "draft.txt")
    layer, within, told = site.features(), site.release(site.two, "1"), list[str]()
    before = snapshot(site.home / "large")
    recipe = layer.recipe("demand", within, site.one[:8])
    assert recipe.unmade and recipe.at["commit"] == site.one
    assert json.loads(recipe.at["tables"]) == {"rides": "1"}
    assert layer.found(recipe, within) is None
    pin = layer.make(recipe, within, told.append)
    assert demand(layer.path(pin)) == [2.0, 4.0, 8.0]
    assert "Running stage 'build':" in told
    assert any("'extract' is cached" in line for line in told), "the rows were extracted before"
    assert not any("git add" in line for line in told), "there is nothing to add there"
    assert snapshot(site.home / "large") == before
    assert site.left() == []
    first = site.features().pin("demand", site.one)
    assert pin.at["pipeline"] == first.at["pipeline"], "another version is not another pipeline"
    assert layer.problems(pin) == [] and int(pin.at["made_at"]) > 0
    fresh = site.features()
    assert fresh.found(recipe, within) == pin == fresh.make(recipe, within, told.append)
    _is_had_again_from_the_cache(site, pin, recipe, within)


def _is_had_again_from_the_cache(site: Site, pin: Pin, recipe: Pin, within: Release) -> None:
    """No commit's dvc.lock has it, and yet nothing is computed twice."""
    layer = site.features()
    shutil.rmtree(layer.path(pin))
    assert layer.found(recipe, within) == pin and layer.problems(pin) == []
    layer.prepare(pin)
    assert demand(layer.path(pin)) == [2.0, 4.0, 8.0]
    file = layer.path(pin) / "history.parquet"
    file.chmod(0o644)
    file.write_bytes(b"changed")
    assert site.features().found(recipe, within) is None
    with pytest.raises(NotRestorable, match="changed"):
        site.features().make(recipe, within, silent)
    assert file.read_bytes() == b"changed", "evidence stays"
    shutil.rmtree(layer.path(pin))
    index = next((site.state / "releases/recipes").iterdir())
    index.write_bytes(b"{}garbage")
    assert site.features().found(recipe, within) is None
    made = site.features().make(recipe, within, silent)
    assert made.digest == pin.digest and json.loads(index.read_bytes())["pin"] == made.to_json()


def test_what_dvc_has_of_these_tables_is_found_without_running_anything(site: Site) -> None:
    layer, within = site.features(), site.release(site.two, "0")
    recipe = layer.recipe("demand", within, site.one)
    found = layer.found(recipe, within)
    assert found is not None and found == site.features().pin("demand", site.one)
    assert not (site.state / "aside").exists()
    shutil.rmtree(layer.path(found))
    layer.prepare(found)
    assert demand(layer.path(found)) == [2.0, 4.0]


def test_what_dvc_has_is_found_also_where_a_release_has_features_made_again(site: Site) -> None:
    """Those are of the same commit, and say nothing of what its own dvc.lock has."""
    layer, within = site.features(), site.release(site.one, "1")
    again = layer.make(layer.recipe("demand", within), within, silent)
    assert again.at["commit"] == site.one and layer.problems(again) == []
    earlier = site.release(site.one, "0").with_pins("features", again)
    layer = site.features()
    found = layer.found(layer.recipe("demand", earlier), earlier)
    assert found == site.features().pin("demand", site.one)


def test_tables_count_by_their_rows_not_by_their_versions(site: Site) -> None:
    within = site.release(site.two, "1")
    (base,) = within.pins("features")
    assert site.features().recipe("demand", within) == base
    DeltaTable(site.home / "tables/rides").restore(0)
    DeltaTable(site.home / "tables/rides").restore(1)
    again = within.with_pins("data", site.tables().pin("rides", "3"))
    assert site.features().recipe("demand", again) == base
    earlier = within.with_pins("data", site.tables().pin("rides", "2"))
    recipe = site.features().recipe("demand", earlier)
    assert recipe.unmade and json.loads(recipe.at["tables"]) == {"rides": "2"}
    old = site.features().found(site.features().recipe("demand", earlier, site.one), earlier)
    assert old == site.features().pin("demand", site.one), "version 2 has the rows of version 0"


@pytest.mark.parametrize("ref", ["-1", "--upload-pack=touch x", "main", "HEAD~1", "a..b"])
def test_a_ref_that_is_no_pin_is_refused(site: Site, ref: str) -> None:
    with pytest.raises(FloatingReference):
        site.features().recipe("demand", site.release(site.two, "1"), ref)
    with (
        pytest.raises(Refused),
        reproduced(
            Repository(site.repository), ref, stages=["build"], params={}, environment={},
            state=site.state, tell=silent,
        ),
    ):  # fmt: skip
        pytest.fail("it ran")


def test_what_cannot_be_told_which_version_to_read_is_refused(site: Site) -> None:
    layer, within = site.features(), site.release(site.two, "1")
    unknown = commit(site.repository, params="factor: 2.0\ntables: {}\n")
    with pytest.raises(BadConfiguration, match=r"no `tables\.rides`"):
        layer.recipe("demand", within, unknown)
    unnoticed = commit(
        site.repository,
        params=params(2.0, 0),
        pipeline=PIPELINE.replace("    params: [tables]\n", ""),
    )
    with pytest.raises(BadConfiguration, match="No stage depends on"):
        layer.recipe("demand", within, unnoticed)
    with pytest.raises(Refused, match="pins no version of table"):
        layer.recipe("demand", Release("pricing", {"features": within.pins("features")}))
    with pytest.raises(Refused, match="which commit"):
        layer.recipe("demand", Release("pricing", {"data": within.pins("data")}))
    with pytest.raises(Unknown):
        layer.recipe("demand", within, "0" * 40)


def test_a_version_that_is_written_into_a_command_is_no_other_pipeline(site: Site) -> None:
    written = PIPELINE.replace("extract.py\n", "extract.py ${tables.rides}\n", 1)
    commits = [
        commit(site.repository, pipeline=written, params=params(2.0, version)) for version in (0, 1)
    ]
    within = site.release(site.two, "1")
    recipes = [site.features().recipe("demand", within, each) for each in commits]
    assert recipes[0].at["pipeline"] == recipes[1].at["pipeline"]
    assert recipes[0].at["pipeline"] != within.pins("features")[0].at["pipeline"]


def test_features_that_dvc_links_to_its_cache_are_kept_as_files(site: Site) -> None:
    run(site.repository, sys.executable, "-m", "dvc", "config", "--local", "cache.type", "symlink")
    layer = site.features()
    pin = site.make(site.one, "1", layer)
    (file,) = layer.path(pin).iterdir()
    assert not file.is_symlink() and file.stat().st_nlink == 1
    shutil.rmtree(site.repository / ".dvc" / "cache")
    assert layer.problems(pin) == [] and demand(layer.path(pin)) == [2.0, 4.0, 8.0]


def test_a_damaged_object_of_dvcs_cache_does_not_pass_for_features(site: Site) -> None:
    pin = site.features().pin("demand", site.one)
    kept = site.features().path(pin)
    cached = (site.repository / ".dvc/cache/files").rglob("*")
    content = (kept / "history.parquet").read_bytes()
    damaged = next(path for path in cached if path.is_file() and path.read_bytes() == content)
    shutil.rmtree(kept)
    mode = damaged.stat().st_mode
    damaged.chmod(0o644)
    damaged.write_bytes(content[:-1] + b"0")
    damaged.chmod(mode)
    with pytest.raises(GateNotPassed, match=f"{damaged.name} .*is damaged"):
        site.make(site.one, "0")
    damaged.unlink()
    assert site.make(site.one, "0").digest == pin.digest


def test_a_parameter_of_an_unknown_table_is_refused() -> None:
    thing = {"out": "features", "link": "live", "tables": {"rides": "params.yaml:tables.rides"}}
    with pytest.raises(ValueError, match="no table `rides`"):
        Layers.model_validate({"features": {"demand": thing}})
    with pytest.raises(ValueError, match="should match pattern"):
        Layers.model_validate({"features": {"demand": {**thing, "tables": {"rides": "tables"}}}})


def test_the_pipeline_of_a_fresh_lock_is_the_pipeline_of_its_files(site: Site) -> None:
    recipe = site.features().recipe("demand", site.release(site.two, "0"))
    output = read_output(
        Repository(site.repository), site.two, "features", {"params.yaml": ["tables.rides"]}
    )
    assert (output.pipeline, output.inputs) == (recipe.at["pipeline"], recipe.at["inputs"])
