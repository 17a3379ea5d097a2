"""Models by their lineage, on real git, DVC and MLflow: found, passed over, or trained."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebbtide.adapters.mlflow.training import Asked
from ebbtide.core.compatibility import layers_fit
from ebbtide.core.errors import GateNotPassed
from ebbtide.core.making import Tell
from ebbtide.core.release import Pin, Release
from tests.integration.training_workspace import MODEL, TRAIN, Workshop, build, other


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Version 1 was trained by commit `good` and released; version 2 by commit `bad`."""
    shop = build(tmp_path_factory.mktemp("training"))
    good = shop.release("good", "1")
    for _ in range(2):
        assert shop.models().tag_lineage(good.pins("model")[0], good) == ""
    return shop


@pytest.fixture
def wanted(shop: Workshop) -> Release:
    """The bad release with the good one's features: its model was not trained on them."""
    features = shop.release("good", "1").pins("features")
    return shop.release("bad", "2").with_pins("features", *features)


def test_the_version_of_exactly_that_lineage_is_found(shop: Workshop, wanted: Release) -> None:
    models = shop.models()
    recipe = models.recipe("price", wanted)
    assert recipe.unmade
    assert recipe.at["commit"] == shop.commits["good"]
    found = models.found(recipe, wanted)
    assert found
    assert (found.at["version"], found.digest) == ("1", models.pin("price", "1").digest)
    assert layers_fit(wanted.with_pins("model", found), []).passed
    assert models.make(recipe, wanted, _silent) == found
    assert shop.versions() == ["1", "2"]


def test_a_model_stays_where_its_features_do(shop: Workshop) -> None:
    good = shop.release("good", "1")
    assert shop.models().recipe("price", good) == good.pins("model")[0]


def test_features_that_are_still_to_be_made_have_no_model_yet(
    shop: Workshop, wanted: Release
) -> None:
    models, (features,) = shop.models(), wanted.pins("features")
    unmade = wanted.with_pins("features", Pin(features.name, "", features.at))
    recipe = models.recipe("price", unmade)
    assert recipe.unmade
    assert models.found(recipe, unmade) is None
    assert models.found(recipe, wanted)


_OTHERWISE: dict[str, dict[str, str]] = {
    "parameters": {"params__yaml": "train: {rate: 1.0, error: 0.3}\n"},
    "code": {"train__py": TRAIN + "# changed\n"},
    "labels": {"labels__csv__dvc": f"outs: [{{md5: {'a' * 32}, path: labels.csv}}]\n"},
    "command": {},
}


@pytest.mark.parametrize("differs", _OTHERWISE)
def test_another_training_is_another_lineage(shop: Workshop, wanted: Release, differs: str) -> None:
    files = _OTHERWISE[differs]
    if differs == "command":
        pipeline = shop.read("good", "dvc.yaml")
        files = {"dvc__yaml": pipeline.replace("python train.py", "python -B train.py")}
    commit = shop.branch(differs, "good", **files)
    models = shop.models()
    recipe = models.recipe("price", wanted, commit)
    assert recipe.at["commit"] == commit
    assert models.found(recipe, wanted) is None


def test_what_does_not_touch_the_training_is_the_same_lineage(
    shop: Workshop, wanted: Release
) -> None:
    commit = shop.branch("readme", "good", README__md="new", orders__csv="1\n2\n3\n4\n")
    found = shop.models().found(shop.models().recipe("price", wanted, commit), wanted)
    assert found
    assert found.at["version"] == "1"


def test_other_features_have_no_model(shop: Workshop, wanted: Release) -> None:
    models, recipe = shop.models(), shop.models().recipe("price", wanted)
    features = other(wanted.pins("features")[0], digest="0" * 64)
    assert models.found(recipe, wanted.with_pins("features", features)) is None


def _deleted(shop: Workshop, number: str, _folder: Path) -> None:
    shop.store.client.delete_model_version(MODEL, number)


def _changed(_shop: Workshop, _number: str, folder: Path) -> None:
    (folder / "python_model.pkl").write_bytes(b"swapped")


def _gone(_shop: Workshop, _number: str, folder: Path) -> None:
    shutil.rmtree(folder)


def _forged(shop: Workshop, number: str, _folder: Path) -> None:
    shop.store.client.delete_model_version_tag(MODEL, number, "ebbtide.artifacts")


@pytest.mark.parametrize("harm", [_deleted, _changed, _gone, _forged])
def test_a_version_that_is_not_whole_is_passed_over(
    shop: Workshop, wanted: Release, tmp_path: Path, harm: Callable[[Workshop, str, Path], None]
) -> None:
    folder = tmp_path / "copy"
    number = shop.registered_again("1", folder)
    models, said = shop.models(), list[str]()
    recipe = models.recipe("price", wanted)
    try:
        newest = models.found(recipe, wanted)
        assert newest
        assert newest.at["version"] == number, "the newest of several"
        harm(shop, number, folder)
        found = models.make(recipe, wanted, said.append)
        assert found.at["version"] == "1"
        passed_over = [line for line in said if "passed over" in line]
        assert harm is _deleted or f"version {number}" in passed_over[0]
    finally:
        if number in shop.versions():
            shop.store.client.delete_model_version(MODEL, number)


def test_changed_bytes_do_not_get_their_lineage_again(shop: Workshop) -> None:
    good, models = shop.release("good", "1"), shop.models()
    pickled = shop.artifacts("1") / "python_model.pkl"
    whole = pickled.read_bytes()
    pickled.write_bytes(b"swapped")
    try:
        pin = models.pin("price", "1")
        assert pin.digest != good.pins("model")[0].digest
        assert "other artifacts" in models.tag_lineage(pin, good.with_pins("model", pin))
        assert shop.store.tags(MODEL, "1")["ebbtide.artifacts"] == good.pins("model")[0].digest
    finally:
        pickled.write_bytes(whole)


def test_what_cannot_be_proved_is_not_recorded(shop: Workshop) -> None:
    models, bad = shop.models(), shop.release("bad", "2")
    of_good = bad.with_pins("features", *shop.release("good", "1").pins("features"))
    elsewhere = other(bad.pins("model")[0], run_id="another registry's")
    unknown = other(bad.pins("model")[0], version="9")
    for pin, within, why in (
        (bad.pins("model")[0], of_good, "other features"),
        (elsewhere, bad, "no commit"),
        (unknown, bad, "no commit"),
    ):
        assert why in models.tag_lineage(pin, within)
    assert "ebbtide.lineage" not in shop.store.tags(MODEL, "2")


def test_a_stage_that_was_changed_and_not_run_again_proves_nothing(
    shop: Workshop, tmp_path: Path
) -> None:
    """Version 2 by a commit whose dvc.lock is older than the code that it has."""
    stale = shop.clone(tmp_path / "stale")
    stale.git("reset", "--quiet", "--hard", stale.commits["good"])
    stale.forget_branches()
    lock, features = (stale.read("bad", file) for file in ("dvc.lock", "features.py"))
    stale.commit("stale", dvc__lock=lock, features__py=features, train__py=TRAIN + "# changed\n")
    bad = shop.release("bad", "2")
    assert "no commit" in stale.models().tag_lineage(bad.pins("model")[0], bad)


@pytest.fixture(scope="module")
def faster(shop: Workshop) -> str:
    """A commit that trains otherwise, which nobody has run."""
    return shop.branch("faster", "good", params__yaml="train: {rate: 2.0, error: 0.21}\n")


def test_what_was_not_trained_yet_is_trained_once(
    shop: Workshop, wanted: Release, faster: str
) -> None:
    recipe = shop.models().recipe("price", wanted, faster)
    models, before, checkout = shop.models(), shop.versions(), shop.standing()
    made = models.make(recipe, wanted, _silent)
    number = made.at["version"]
    assert shop.versions() == [*before, number]
    assert shop.standing() == checkout, "the user's own checkout"
    assert made.at["trained_on"] == wanted.pins("features")[0].digest
    assert shop.answer(number) == [24.0], "the sum of the features, 2 + 4 + 6, by the rate"
    ((run,),) = shop.store.sql("SELECT run_id FROM model_versions WHERE version = ?", number)
    query = "SELECT value FROM tags WHERE key = 'ebbtide.lineage' AND run_uuid = ?"
    assert shop.store.sql(query, run) == [(shop.store.tags(MODEL, number)["ebbtide.lineage"],)]
    quality = models.quality(made)
    assert quality
    assert (quality.metric, quality.value) == ("error", 0.21)
    assert shop.models().found(recipe, wanted) == made
    assert shop.models().make(recipe, wanted, _silent) == made
    assert shop.versions() == [*before, number]

    # It was deleted since. DVC has the stage's result, which names it: that alone registers
    # nothing, and only then does the stage run again.
    shop.store.client.delete_model_version(MODEL, number)
    said: list[str] = []
    again = shop.models().make(recipe, wanted, said.append)
    assert any(f"version {number} is not taken" in line for line in said)
    assert again.at["version"] not in (*before, number)
    assert shop.versions() == [*before, again.at["version"]]
    shop.store.client.delete_model_version(MODEL, again.at["version"])


def test_what_a_killed_run_registered_is_taken_by_the_next(
    shop: Workshop, wanted: Release, faster: str, tmp_path: Path
) -> None:
    """It died before it tagged the version; DVC has the stage's result."""
    number = shop.registered_again("1", tmp_path / "copy", tags=False)
    run = shop.store.client.get_model_version(MODEL, "1").run_id
    models = shop.models(train=lambda _asked, _tell: {"version": number, "run": run, "error": 0.5})
    recipe = models.recipe("price", wanted, faster)
    try:
        made = models.make(recipe, wanted, _silent)
        assert made.at["version"] == number
        assert shop.models().found(recipe, wanted) == made
        quality = models.quality(made)
        assert quality
        assert quality.value == 0.5
    finally:
        shop.store.client.delete_model_version(MODEL, number)


@pytest.mark.parametrize(
    ("says", "why", "runs"),
    [
        ({}, "no version", 1),
        ({"version": "latest"}, "no version", 1),
        ({"version": 99}, "has no version 99", 2),
        ({"version": 2}, "older than this run", 2),
        ({"version": 2, "run": "another"}, "of another run", 2),
        ({"version": 1, "run": "its own"}, "another lineage", 2),
    ],
)
def test_a_result_that_names_another_model_is_not_believed(
    shop: Workshop,
    wanted: Release,
    faster: str,
    monkeypatch: pytest.MonkeyPatch,
    says: dict[str, Any],
    why: str,
    runs: int,
) -> None:
    # Versions 1 and 2 were made seconds ago: no clock is that wrong here.
    monkeypatch.setattr("ebbtide.adapters.mlflow.training._CLOCKS_DIFFER", 0.0)
    version = shop.store.client.get_model_version(MODEL, "1")
    says = {**says, "run": version.run_id} if says.get("run") == "its own" else says
    ran: list[bool] = []

    def train(asked: Asked, _tell: Tell) -> dict[str, Any]:
        ran.append(asked.again)
        return says

    models = shop.models(train=train)
    recipe = models.recipe("price", wanted, faster)
    with pytest.raises(GateNotPassed, match=why):
        models.make(recipe, wanted, _silent)
    assert ran == [False, True][:runs]
    assert shop.store.tags(MODEL, "2").get("ebbtide.lineage") is None


def test_on_other_features_than_the_kept_ones_nothing_is_trained(
    shop: Workshop, wanted: Release, faster: str
) -> None:
    recipe, before = shop.models().recipe("price", wanted, faster), shop.versions()
    features = other(wanted.pins("features")[0], digest="0" * 64)
    with pytest.raises(GateNotPassed, match="other features"):
        shop.models().make(recipe, wanted.with_pins("features", features), _silent)
    assert shop.versions() == before


@pytest.mark.parametrize(
    ("code", "within", "why"),
    [
        ("raise SystemExit('no luck')", 120.0, "no luck"),
        ("import time; time.sleep(600)", 3.0, "not end within"),
    ],
    ids=["fails", "hangs"],
)
def test_a_stage_that_fails_or_hangs_is_a_gate_not_passed(
    shop: Workshop, wanted: Release, code: str, within: float, why: str
) -> None:
    commit, before = shop.branch(why.replace(" ", "-"), "good", train__py=code), shop.versions()
    models = shop.models(within=within)
    recipe = models.recipe("price", wanted, commit)
    with pytest.raises(GateNotPassed, match=why):
        models.make(recipe, wanted, _silent)
    assert shop.versions() == before
    assert not list((shop.root / "state/aside").iterdir())


def _silent(_line: str) -> None:
    pass
