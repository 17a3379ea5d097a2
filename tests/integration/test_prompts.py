"""The prompt layer on a real MLflow prompt registry."""

import json
import uuid
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from ebbtide.adapters.mlflow import prompts as adapter
from ebbtide.adapters.mlflow.prompts import Prompts
from ebbtide.adapters.system.file import PromptThing
from ebbtide.core.digests import digest
from ebbtide.core.errors import (
    Conflict,
    FloatingReference,
    NotRestorable,
    Tampered,
    Unknown,
    Unreachable,
)
from ebbtide.core.release import Pin
from tests.integration.registry_store import Store, on_sqlite

CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi {{rider}}"}]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return on_sqlite(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def name(store: Store) -> str:
    made = f"rider-{uuid.uuid4().hex[:8]}"
    store.client.register_prompt(made, "Hello {{rider}}, é")
    store.client.register_prompt(made, CHAT, model_config={"temperature": 0.5})
    return made


def layer(store: Store, name: str) -> Prompts:
    return Prompts(store.uri, "", {"message": PromptThing(prompt=name, alias="production")})


def test_a_pin_carries_its_template(store: Store, name: str) -> None:
    prompts = layer(store, name)
    text, chat = prompts.pin("message", "1"), prompts.pin("message")
    assert text.digest == digest(
        {"template": "Hello {{rider}}, é", "response_format": None, "model_config": None}
    )
    assert chat.at["version"] == "2"
    assert json.loads(chat.at["model_config"]) == {"temperature": 0.5}
    store.client.delete_prompt_version(name, "1")
    carried = Pin.from_json(json.loads(json.dumps(text.to_json())))
    away = Prompts("sqlite:////nowhere/x.db", "", {"message": PromptThing(prompt=name)})
    assert away.template(carried) == "Hello {{rider}}, é"
    assert away.template(chat) == CHAT


def test_the_settings_of_a_prompt_are_part_of_its_content(store: Store, name: str) -> None:
    store.client.register_prompt(name, CHAT, model_config={"temperature": 0.9})
    store.client.register_prompt(name, CHAT, response_format={"type": "object"})
    prompts = layer(store, name)
    assert len({prompts.pin("message", ask).digest for ask in ("2", "3", "4")}) == 3


@pytest.mark.parametrize("ask", ["latest", "@production", "production", "0", "x y"])
def test_what_can_move_is_refused(store: Store, name: str, ask: str) -> None:
    store.client.set_prompt_alias(name, "production", 1)
    with pytest.raises(FloatingReference) as refusal:
        layer(store, name).pin("message", ask)
    today = {"latest": "2", "@production": "1", "production": "1"}.get(ask)
    assert today is None or f"version {today}" in refusal.value.remedy


def test_what_is_not_there_is_unknown(store: Store, name: str) -> None:
    for prompts, ask in ((layer(store, name), "9"), (layer(store, "nobody"), "")):
        with pytest.raises(Unknown):
            prompts.pin("message", ask)
    with pytest.raises(Unknown):
        layer(store, name).pin("nothing")


def test_do_undo_do_undo_is_the_same_world(store: Store, name: str) -> None:
    prompts = layer(store, name)
    first, second = prompts.pin("message", "1"), prompts.pin("message", "2")
    assert prompts.live("message") is None
    prompts.move("message", first, only_from=[None], note="saga-0")
    for _ in range(2):
        before = prompts.live("message")
        assert before == first
        prompts.move("message", second, only_from=[before], note="saga-1")
        assert store.alias(name, "production") == "2"
        assert store.tags(name, "2")["ebbtide.saga"] == "saga-1"
        prompts.move("message", second, only_from=[before], note="saga-1")
        prompts.move("message", before, only_from=[second, before], note="saga-1/undo")
        assert store.alias(name, "production") == "1"
    prompts.move("message", None, only_from=[first], note="saga-2")
    prompts.move("message", None, only_from=[first], note="saga-2")
    assert store.alias(name, "production") is None


def test_an_alias_that_somebody_else_has_moved_is_left(store: Store, name: str) -> None:
    store.client.register_prompt(name, "third")
    prompts = layer(store, name)
    first, second = prompts.pin("message", "1"), prompts.pin("message", "2")
    store.sql(
        "INSERT INTO registered_model_aliases (name, alias, version) VALUES (?, ?, ?)",
        name,
        "production",
        3,
    )
    for to in (second, None):
        with pytest.raises(Conflict):
            prompts.move("message", to, only_from=[first, None], note="s")
    store.client.delete_prompt_alias(name, "production")
    with pytest.raises(Conflict):
        prompts.move("message", second, only_from=[first], note="s")
    assert store.alias(name, "production") is None


def test_a_move_by_another_process_is_seen_at_once(store: Store, name: str) -> None:
    prompts = layer(store, name)
    prompts.move("message", prompts.pin("message", "1"), only_from=[None], note="s")
    store.sql("UPDATE registered_model_aliases SET version = 2 WHERE name = ?", name)
    live = prompts.live("message")
    assert live is not None
    assert live.at["version"] == "2"


def test_a_deleted_prompt_version_is_a_problem(store: Store, name: str) -> None:
    prompts = layer(store, name)
    pin = prompts.pin("message", "1")
    assert prompts.problems(pin) == []
    store.client.delete_prompt_version(name, "1")
    (problem,) = prompts.problems(pin)
    assert "deleted" in problem
    assert pin.digest[:10] in problem
    with pytest.raises(NotRestorable):
        prompts.move("message", pin, only_from=[None], note="s")
    assert store.alias(name, "production") is None


def test_a_template_changed_in_the_registry_is_a_problem_and_can_be_left(
    store: Store, name: str
) -> None:
    prompts = layer(store, name)
    pin, other = prompts.pin("message", "1"), prompts.pin("message", "2")
    prompts.move("message", pin, only_from=[None], note="s")
    store.sql(
        "UPDATE model_version_tags SET value = 'Pay!' WHERE name = ? AND version = 1 AND key = ?",
        name,
        "mlflow.prompt.text",
    )
    assert "changed" in prompts.problems(pin)[0]
    live = prompts.live("message")
    assert live is not None
    assert live.digest != pin.digest
    prompts.move("message", other, only_from=[pin], note="s")
    with pytest.raises(NotRestorable):
        prompts.move("message", pin, only_from=[other], note="s")


def test_a_pin_with_another_template_is_not_served(store: Store, name: str) -> None:
    pin = layer(store, name).pin("message", "1")
    forged = Pin(pin.name, pin.digest, {**pin.at, "template": '"Pay!"'})
    for bad in (forged, Pin(pin.name, pin.digest, {})):
        with pytest.raises(Tampered):
            layer(store, name).template(bad)


def test_a_registry_that_is_away_is_unreachable(tmp_path: Path) -> None:
    database = tmp_path / "gone.db"
    prompts = layer(Store(f"sqlite:///{database}", database, tmp_path), "x")
    with pytest.raises(Unreachable):
        prompts.live("message")
    assert not database.exists()


def test_a_registry_that_keeps_no_prompts_as_models_is_asked_for_prompts(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = layer(store, name)
    pin = prompts.pin("message", "1")
    prompts.move("message", pin, only_from=[None], note="saga")
    there = prompts.live("message")
    monkeypatch.setattr(adapter, "_plainly", lambda _client: NoModels())
    assert prompts.pin("message", "1") == pin
    assert prompts.live("message") == there
    assert prompts.problems(pin) == []


class NoModels:
    """A registry that has no models by the names of prompts."""

    def get_model_version(self, *_asked: str) -> None:
        raise MlflowException("No such model.")

    get_model_version_by_alias = get_model_version
