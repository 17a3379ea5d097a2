"""The model layer on a real MLflow, on SQLite and over HTTP."""

import json
import os
import shutil
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from ebbtide.adapters.mlflow.models import Models
from ebbtide.adapters.system.file import ModelThing
from ebbtide.core.digests import tree_digest
from ebbtide.core.errors import (
    Conflict,
    FloatingReference,
    NotRestorable,
    Refused,
    Unknown,
    Unreachable,
)
from ebbtide.core.release import Pin
from tests.integration.registry_store import Store, fluent, on_sqlite, over_http


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return on_sqlite(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def name() -> str:
    return f"price-{uuid.uuid4().hex[:8]}"


def layer(store: Store, name: str, state: Path, alias: str = "champion") -> Models:
    return Models(store.uri, "", {"demand": ModelThing(registered_model=name, alias=alias)}, state)


def bytes_of(store: Store, name: str, version: str) -> Path:
    """Where the registry has a version's artifacts, read past every adapter."""
    source: str
    location: str
    (source,) = store.sql(
        "SELECT source FROM model_versions WHERE name = ? AND version = ?", name, version
    )[0]
    (location,) = store.sql(
        "SELECT artifact_location FROM logged_models WHERE model_id = ?", source.split("/")[-1]
    )[0]
    if location.startswith("mlflow-artifacts:"):
        return store.folder / "kept" / urlsplit(location).path.lstrip("/")
    return Path(unquote(urlsplit(location).path))


def test_a_pin_tells_what_the_gates_want_to_know(store: Store, name: str, tmp_path: Path) -> None:
    store.log_model(name, 1.0, trained_on="f" * 64, trained_pipeline="p" * 64)
    second = store.log_model(name, 2.0)
    models = layer(store, name, tmp_path)
    pin, newest = models.pin("demand", "1"), models.pin("demand")
    assert newest.at["version"] == second == "2"
    assert pin.digest == tree_digest(bytes_of(store, name, "1")) != newest.digest
    assert pin.at["trained_on"] == "f" * 64
    assert pin.at["trained_pipeline"] == "p" * 64
    assert newest.at["trained_on"] == ""
    assert pin.at["model_id"].startswith("m-")
    assert pin.at["registered_model"] == name
    assert pin.at["run_id"]
    assert json.loads(pin.at["inputs"]) == [
        {"name": "zone", "type": "string"},
        {"name": "demand", "type": "double"},
    ]
    assert pin.at["signature"] == newest.at["signature"] != ""
    assert models.problems(pin) == []
    assert tree_digest(models.path(pin)) == pin.digest
    assert Pin.from_json(json.loads(json.dumps(pin.to_json()))) == pin


@pytest.mark.parametrize("ask", ["latest", "@champion", "champion", "01", "1.0", "-1", "1 ", "v1"])
def test_what_can_move_is_refused(store: Store, name: str, tmp_path: Path, ask: str) -> None:
    store.log_model(name, 1.0)
    store.log_model(name, 2.0)
    store.client.set_registered_model_alias(name, "champion", "1")
    with pytest.raises(FloatingReference) as refusal:
        layer(store, name, tmp_path).pin("demand", ask)
    today = {"latest": "2", "@champion": "1", "champion": "1"}.get(ask)
    assert today is None or f"version {today}" in refusal.value.remedy


def test_what_is_not_there_is_unknown(store: Store, name: str, tmp_path: Path) -> None:
    models = layer(store, name, tmp_path)
    for ask in ("", "1"):
        with pytest.raises(Unknown):
            models.pin("demand", ask)
    with pytest.raises(Unknown):
        models.pin("nobody")
    store.log_model(name, 1.0)
    with pytest.raises(Unknown) as refusal:
        models.pin("demand", "7")
    assert "newest is 1" in refusal.value.remedy


def round_trip(store: Store, models: Models, name: str) -> None:
    first, second = models.pin("demand", "1"), models.pin("demand", "2")
    assert models.live("demand") is None
    models.move("demand", first, only_from=[None], note="saga-0")
    assert store.tags(name, "1")["ebbtide.saga"] == "saga-0"
    first = models.pin("demand", "1")
    for _ in range(2):
        before = models.live("demand")
        assert before == first
        models.move("demand", second, only_from=[before], note="saga-1")
        assert store.alias(name, "champion") == "2"
        assert store.tags(name, "2")["ebbtide.saga"] == "saga-1"
        models.move("demand", second, only_from=[before], note="saga-1")
        models.move("demand", before, only_from=[second, before], note="saga-1/undo")
        assert store.alias(name, "champion") == "1"
    models.move("demand", None, only_from=[first], note="saga-2")
    models.move("demand", None, only_from=[first], note="saga-2")
    assert store.alias(name, "champion") is None
    assert models.live("demand") is None


def test_do_undo_do_undo_is_the_same_world(store: Store, name: str, tmp_path: Path) -> None:
    store.log_model(name, 1.0)
    store.log_model(name, 2.0)
    round_trip(store, layer(store, name, tmp_path), name)


def test_an_alias_that_somebody_else_has_moved_is_left(
    store: Store, name: str, tmp_path: Path
) -> None:
    for answer in (1.0, 2.0, 3.0):
        store.log_model(name, answer)
    models = layer(store, name, tmp_path)
    first, second = models.pin("demand", "1"), models.pin("demand", "2")
    models.move("demand", first, only_from=[None], note="s")
    store.client.set_registered_model_alias(name, "champion", "3")
    for to in (second, None):
        with pytest.raises(Conflict):
            models.move("demand", to, only_from=[first], note="s")
    store.client.delete_registered_model_alias(name, "champion")
    with pytest.raises(Conflict):
        models.move("demand", second, only_from=[first], note="s")
    assert store.alias(name, "champion") is None


def test_a_deleted_version_is_a_problem_and_keeps_its_bytes_here(
    store: Store, name: str, tmp_path: Path
) -> None:
    store.log_model(name, 1.0)
    models = layer(store, name, tmp_path)
    pin = models.pin("demand", "1")
    store.client.delete_model_version(name, "1")
    (problem,) = models.problems(pin)
    assert "version 1" in problem
    assert "deleted" in problem
    assert pin.digest[:10] in problem
    with pytest.raises(NotRestorable):
        models.move("demand", pin, only_from=[None], note="s")
    assert tree_digest(models.path(pin)) == pin.digest


def test_a_deleted_and_remade_registered_model_is_not_the_pinned_one(
    store: Store, name: str, tmp_path: Path
) -> None:
    store.log_model(name, 1.0)
    models = layer(store, name, tmp_path)
    pin = models.pin("demand", "1")
    store.client.delete_registered_model(name)
    assert "whole registered model" in models.problems(pin)[0]
    assert models.live("demand") is None
    store.log_model(name, 1.0)
    assert pin.at["model_id"] in models.problems(pin)[0]
    with pytest.raises(NotRestorable):
        models.move("demand", pin, only_from=[None], note="s")


def test_a_deleted_logged_model_is_a_problem(store: Store, name: str, tmp_path: Path) -> None:
    store.log_model(name, 1.0)
    models = layer(store, name, tmp_path)
    pin = models.pin("demand", "1")
    store.client.delete_logged_model(pin.at["model_id"])
    assert pin.at["model_id"] in models.problems(pin)[0]


def test_missing_artifacts_are_a_problem_and_do_not_hide_what_is_live(
    store: Store, name: str, tmp_path: Path
) -> None:
    store.log_model(name, 1.0)
    store.log_model(name, 2.0)
    models = layer(store, name, tmp_path)
    bad, good = models.pin("demand", "1"), models.pin("demand", "2")
    models.move("demand", bad, only_from=[None], note="s")
    shutil.rmtree(bytes_of(store, name, "1"))
    assert "missing" in models.problems(bad)[0]
    live = models.live("demand")
    assert live is not None
    assert (live.at["version"], live.digest) == ("1", "")
    models.move("demand", good, only_from=[live], note="s")
    assert store.alias(name, "champion") == "2"


def test_swapped_bytes_in_the_registry_are_a_problem_though_our_copy_is_whole(
    store: Store, name: str, tmp_path: Path
) -> None:
    store.log_model(name, 1.0)
    store.log_model(name, 2.0)
    models = layer(store, name, tmp_path)
    pin = models.pin("demand", "1")
    models.move("demand", pin, only_from=[None], note="s")
    pickled = "python_model.pkl"
    shutil.copyfile(bytes_of(store, name, "2") / pickled, bytes_of(store, name, "1") / pickled)
    (problem,) = models.problems(pin)
    assert "changed in the registry" in problem
    assert pin.digest[:10] in problem
    live = models.live("demand")
    assert live is not None
    assert live.digest != pin.digest
    assert tree_digest(models.path(pin)) == pin.digest
    shutil.rmtree(models.path(pin))
    with pytest.raises(NotRestorable):
        models.prepare(pin)
    assert os.listdir(tmp_path / "models") == []


def test_a_changed_copy_of_ours_is_a_problem_and_is_not_loaded(
    store: Store, name: str, tmp_path: Path
) -> None:
    store.log_model(name, 1.0)
    models = layer(store, name, tmp_path)
    pin = models.pin("demand", "1")
    (models.path(pin) / "planted.py").write_text("import os")
    assert "was changed" in models.problems(pin)[0]
    for act in (
        lambda: models.path(pin),
        lambda: models.prepare(pin),
        lambda: models.pin("demand"),
    ):
        with pytest.raises(NotRestorable):
            act()


def test_a_lost_copy_of_ours_is_made_again(store: Store, name: str, tmp_path: Path) -> None:
    store.log_model(name, 1.0)
    models = layer(store, name, tmp_path)
    pin = models.pin("demand", "1")
    shutil.rmtree(models.path(pin))
    assert models.problems(pin) == []
    models.prepare(pin)
    models.prepare(pin)
    assert tree_digest(models.path(pin)) == pin.digest


def test_loading_the_version_by_its_name_does_not_look_like_a_change(
    store: Store, name: str, tmp_path: Path
) -> None:
    import mlflow

    store.log_model(name, 1.0)
    models = layer(store, name, tmp_path)
    pin = models.pin("demand", "1")
    with fluent(store.uri):
        mlflow.artifacts.download_artifacts(f"models:/{name}/1")
    assert (bytes_of(store, name, "1") / "registered_model_meta").exists()
    assert models.problems(pin) == []
    assert models.pin("demand", "1") == pin


def test_the_kept_copy_can_be_loaded(store: Store, name: str, tmp_path: Path) -> None:
    import mlflow

    store.log_model(name, 4.5)
    models = layer(store, name, tmp_path)
    loaded = mlflow.pyfunc.load_model(str(models.path(models.pin("demand", "1"))))
    assert loaded.predict({"zone": ["a"], "demand": [1.0]}) == [4.5]


def test_a_link_out_of_the_artifacts_is_refused(store: Store, name: str, tmp_path: Path) -> None:
    store.log_model(name, 1.0)
    models = layer(store, name, tmp_path)
    (bytes_of(store, name, "1") / "leak").symlink_to("/etc/hostname")
    with pytest.raises(Refused, match="leak"):
        models.pin("demand", "1")


def test_a_location_that_climbs_is_refused(store: Store, name: str, tmp_path: Path) -> None:
    store.log_model(name, 1.0)
    models = layer(store, name, tmp_path)
    pin = models.pin("demand", "1")
    store.sql(
        "UPDATE logged_models SET artifact_location = artifact_location || ? WHERE model_id = ?",
        "/%252e%252e/x",
        pin.at["model_id"],
    )
    assert "astray" in models.problems(pin)[0]


def test_a_version_is_tagged_with_each_release_that_it_is_part_of(
    store: Store, name: str, tmp_path: Path
) -> None:
    store.log_model(name, 1.0)
    models = layer(store, name, tmp_path)
    pin = models.pin("demand", "1")
    for release in ("a" * 64, "b" * 64, "a" * 64):
        models.tag_release(pin, release)
    tags = store.tags(name, "1")
    assert {tags[key] for key in tags if key.startswith("ebbtide.release.")} == {
        "a" * 64,
        "b" * 64,
    }


@pytest.mark.parametrize("content", [None, b"", b"not a database at all" * 100])
def test_a_missing_database_is_unreachable_and_is_not_created(
    tmp_path: Path, content: bytes | None
) -> None:
    database = tmp_path / "gone.db"
    if content is not None:
        database.write_bytes(content)
    models = layer(Store(f"sqlite:///{database}", database, tmp_path), "x", tmp_path / "state")
    with pytest.raises(Unreachable):
        models.pin("demand")
    assert (database.read_bytes() if database.exists() else None) == content


def test_a_database_that_goes_away_later_is_unreachable(store: Store, tmp_path: Path) -> None:
    database = tmp_path / "copy.db"
    shutil.copyfile(store.database, database)
    models = layer(Store(f"sqlite:///{database}", database, tmp_path), "x", tmp_path / "state")
    assert models.live("demand") is None
    database.unlink()
    with pytest.raises(Unreachable):
        models.live("demand")
    assert not database.exists()


def test_a_server_that_is_down_or_never_answers_is_unreachable_within_seconds(
    tmp_path: Path,
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for uri in (
            f"http://{address}",
            "http://127.0.0.1:9",
            "postgresql://u:secret@127.0.0.1:9/x",
        ):
            models = layer(Store(uri, tmp_path, tmp_path), "x", tmp_path)
            started = time.monotonic()
            with pytest.raises(Unreachable) as refusal:
                models.live("demand")
            assert time.monotonic() - started < 10
            assert "secret" not in str(refusal.value)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, int]]:
    with over_http(tmp_path_factory.mktemp("server")) as (store, server):
        yield store, server.pid


def test_over_http_it_is_all_the_same(served: tuple[Store, int], name: str, tmp_path: Path) -> None:
    store, _ = served
    store.log_model(name, 1.0)
    store.log_model(name, 2.0)
    models = layer(store, name, tmp_path)
    round_trip(store, models, name)
    pin = models.pin("demand", "1")
    assert pin.digest == tree_digest(bytes_of(store, name, "1")) == tree_digest(models.path(pin))
    assert models.problems(pin) == []
    with pytest.raises(FloatingReference, match="version 2"):
        models.pin("demand", "latest")
    with pytest.raises(Unknown):
        models.pin("demand", "9")
    (bytes_of(store, name, "1") / "python_model.pkl").write_bytes(b"swapped")
    assert "changed in the registry" in models.problems(pin)[0]
    shutil.rmtree(bytes_of(store, name, "1"))
    assert "missing" in models.problems(pin)[0]
    store.client.delete_model_version(name, "1")
    assert "deleted" in models.problems(pin)[0]
    assert not [left for left in os.listdir(tmp_path / "models") if left.startswith(".")]


def test_a_server_that_hangs_is_unreachable_within_seconds(
    served: tuple[Store, int], name: str, tmp_path: Path
) -> None:
    store, group = served
    models = layer(store, name, tmp_path)
    assert models.live("demand") is None
    os.killpg(group, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(Unreachable):
            layer(store, name, tmp_path).live("demand")
        assert time.monotonic() - started < 10
    finally:
        os.killpg(group, signal.SIGCONT)
