"""Layers and gates of the user's own, registered by a real package, through whole sagas."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebbtide.adapters.system.file import find_system
from ebbtide.bootstrap import layers_of
from ebbtide.core.errors import BadConfiguration
from ebbtide.core.saga import Level, SagaState
from tests.flag_shop import SYSTEM, Shop, build
from tests.own_package import install


@pytest.fixture
def make_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def make(extra: str = "") -> Shop:
        made.append(build(tmp_path, monkeypatch, extra))
        return made[-1]

    yield make
    for shop in made:
        shop.world.journal.close()


def test_flags_and_configuration_go_back_together(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    first, second = shop.versions(1), shop.versions(2)
    for release in (first, second):
        saga = shop.order(Level.PROMOTION, to=release.id)
        assert saga.state is SagaState.COMPLETED, saga.why
    assert shop.shown() == {"checkout": 2, "search": 2, "price": "price: 2"}
    saga = shop.order()
    assert saga.state is SagaState.COMPLETED, saga.why
    assert shop.shown() == {"checkout": 1, "search": 1, "price": "price: 1"}


def test_flags_that_somebody_else_changed_stop_the_move_and_stay(
    make_shop: Callable[..., Shop],
) -> None:
    shop = make_shop("gates: {prove: [storm]}\n")
    first = shop.versions(1)
    theirs = shop.root / "live" / "checkout.json"
    theirs.parent.mkdir()
    theirs.write_text('{"flag": "theirs"}')
    saga = shop.order(Level.PROMOTION, to=first.id)
    assert saga.state is SagaState.TAKEN_BACK and "storm" in saga.why
    assert shop.shown() == {"checkout": "theirs", "search": None, "price": None}


@pytest.mark.parametrize(
    ("gate", "says"),
    [
        ("storm", "a storm"),
        ("broken", "RuntimeError: boom"),
        ("silent", "gave no finding"),
        ("missing", "`missing` is not registered under `ebbtide.gates`"),
    ],
)
@pytest.mark.parametrize(
    ("phase", "ends"), [("preflight", SagaState.REFUSED), ("prove", SagaState.TAKEN_BACK)]
)
def test_an_own_gate_that_does_not_pass_stops_the_saga(
    make_shop: Callable[..., Shop], gate: str, says: str, phase: str, ends: SagaState
) -> None:
    shop = make_shop(f"gates: {{{phase}: [calm, {gate}]}}\n")
    saga = shop.order(Level.PROMOTION, to=shop.versions(1).id)
    assert saga.state is ends and says in saga.why and "all calm" not in saga.why
    assert shop.shown() == {"checkout": None, "search": None, "price": None}


def test_own_gates_that_pass_are_told(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop("gates: {preflight: [calm], prove: [calm]}\n")
    saga = shop.order(Level.PROMOTION, to=shop.versions(1).id)
    assert saga.state is SagaState.COMPLETED, saga.why
    told = {step.name: step.why for step in shop.world.journal.steps(saga.id)}
    assert told["own.preflight_gates_pass"] == "calm: all calm"
    assert told["own.proof_gates_pass"] == "calm: all calm"


def systems(root: Path, text: str) -> Path:
    folder = root / "configs" / "systems"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shop.yaml").write_text(text)
    return folder


def test_an_unknown_layer_is_answered_with_the_known_and_how_to_register(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", monkeypatch, {"ebbtide.layers": {"rules": "feature_flags:Flags"}})
    with pytest.raises(BadConfiguration) as caught:
        find_system("shop", systems(tmp_path, SYSTEM))
    told = str(caught.value)
    assert "layers.flags" in told and "model, features, data" in told
    assert "Registered: rules" in told and '[project.entry-points."ebbtide.layers"]' in told


@pytest.mark.parametrize(
    ("point", "thing", "says"),
    [
        ("feature_flags:Flags", "{versions: flags}", r"layers\.flags\.main\.live: Field required"),
        ("feature_flags:Flags", "{versions: a, live: b, c: d}", r"layers\.flags\.main\.c: Extra"),
        ("feature_flags:Nothing", "{versions: a, live: b}", "cannot be loaded"),
        ("no_such_module:Flags", "{versions: a, live: b}", "cannot be loaded"),
        ("feature_flags:FlagFile", "{versions: a, live: b}", "layers.flags: "),
    ],
)
def test_options_and_adapters_that_cannot_be_used_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, thing: str, says: str
) -> None:
    install(tmp_path / "site", monkeypatch, {"ebbtide.layers": {"flags": point}})
    text = f"system: shop\nlayers: {{flags: {{main: {thing}}}}}\n"
    with pytest.raises(BadConfiguration, match=says):
        layers_of(find_system("shop", systems(tmp_path, text)))


def test_a_layer_that_two_packages_register_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, point in (("one", "feature_flags:Flags"), ("two", "feature_flags:Other")):
        install(tmp_path / name, monkeypatch, {"ebbtide.layers": {"flags": point}}, name)
    text = "system: shop\nlayers: {flags: {main: {versions: a, live: b}}}\n"
    with pytest.raises(BadConfiguration, match="more than once"):
        layers_of(find_system("shop", systems(tmp_path, text)))
