"""Models looked at by the names and sizes of their files: no byte is read."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebbtide.adapters.mlflow.models import Models
from ebbtide.adapters.system.file import ModelThing
from ebbtide.core.glancing import Glancing
from ebbtide.core.release import Pin
from tests.integration.registry_store import Store, on_sqlite, over_http
from tests.integration.test_models import bytes_of

NAME = "price"


@pytest.fixture(scope="module", params=["on this disk", "over HTTP"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("mlflow")
    if request.param == "on this disk":
        yield on_sqlite(folder)
        return
    with over_http(folder) as (served, _):
        yield served


def kept(store: Store, state: Path) -> tuple[Models, Pin]:
    store.log_model(NAME, 1.0)
    models = Models(store.uri, "", {"demand": ModelThing(registered_model=NAME)}, state)
    assert isinstance(models, Glancing)
    return models, models.pin("demand")


def test_what_is_missing_or_has_another_size_is_seen(store: Store, tmp_path: Path) -> None:
    models, pin = kept(store, tmp_path)
    assert models.glance(pin) == models.glance_outside(pin) == []
    copy = tmp_path / "models" / pin.digest / "python_model.pkl"
    whole = copy.read_bytes()
    copy.chmod(0o644)
    copy.write_bytes(whole[:-1])
    assert models.glance(pin) == [f"{copy} has {len(whole) - 1} bytes, not {len(whole)}."]
    copy.parent.chmod(0o755)
    copy.unlink()
    assert models.glance(pin) == [f"{copy} is missing."]
    shutil.rmtree(copy.parent)
    assert models.glance(pin) == [], "what is not kept can still be had"
    shutil.rmtree(bytes_of(store, NAME, pin.at["version"]))
    assert "missing" in models.glance(pin)[0] and "missing" in models.glance_outside(pin)[0]


def test_a_byte_that_was_changed_is_only_seen_by_hashing(store: Store, tmp_path: Path) -> None:
    models, pin = kept(store, tmp_path)
    copy = tmp_path / "models" / pin.digest / "python_model.pkl"
    whole = copy.read_bytes()
    copy.chmod(0o644)
    copy.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert models.glance(pin) == []
    assert "was changed" in models.problems(pin)[0]
