"""A store that is away holds up no rollback where serving does not need it: it is owed."""

from ebbtide.core.paying import pay_all
from ebbtide.core.saga import Level, SagaState
from ebbtide.testing import FakeLayer
from flows.order import carry_out
from tests.conftest import Fakes


def _layer(fakes: Fakes, name: str) -> FakeLayer:
    adapter = fakes.world.layers[name]
    assert isinstance(adapter, FakeLayer)
    return adapter


def _owed(fakes: Fakes) -> list[tuple[str, str]]:
    return [(debt.layer, debt.name) for debt in fakes.world.journal.debts("fake")]


def _shows(fakes: Fakes, layer: str) -> str:
    adapter = _layer(fakes, layer)
    was, adapter.away = adapter.away, False
    pin = adapter.live("main")
    adapter.away = was
    return pin.digest if pin else ""


def test_the_route_moves_and_the_alias_is_owed_until_the_registry_is_back(fakes: Fakes) -> None:
    _layer(fakes, "model").away = True
    saga = carry_out(fakes.world, fakes.order(Level.SYSTEM))
    assert saga.state is SagaState.COMPLETED, saga.why
    assert fakes.live() == fakes.good.id and _owed(fakes) == [("model", "main")]
    assert _shows(fakes, "model") == fakes.bad.pins("model")[0].digest
    assert pay_all(fakes.world, by="t")[0] == [] and _owed(fakes), "it is still away"
    _layer(fakes, "model").away = False
    paid, left = pay_all(fakes.world, by="t")
    assert [debt.layer for debt in paid] == ["model"] and left == [] and _owed(fakes) == []
    assert _shows(fakes, "model") == fakes.good.pins("model")[0].digest
    assert fakes.world.journal.verify() == []


def test_what_is_taken_back_meanwhile_is_paid_to_where_the_route_is(fakes: Fakes) -> None:
    _layer(fakes, "model").away = True
    fakes.world.serving.wrong = True
    saga = carry_out(fakes.world, fakes.order(Level.SYSTEM))
    assert saga.state is SagaState.TAKEN_BACK, saga.left
    _layer(fakes, "model").away = False
    assert pay_all(fakes.world, by="t")[1] == []
    assert _shows(fakes, "model") == fakes.bad.pins("model")[0].digest and not _owed(fakes)


def test_somebody_elses_pointer_is_not_moved_for_a_debt(fakes: Fakes) -> None:
    layer = _layer(fakes, "model")
    layer.away = True
    carry_out(fakes.world, fakes.order(Level.SYSTEM))
    layer.away = False
    layer.meddle("main", layer.pin("main", "77"))
    paid, left = pay_all(fakes.world, by="t")
    assert paid == [] and "which no release" in left[0] and _owed(fakes)


def test_what_serving_needs_is_never_owed(fakes: Fakes) -> None:
    _layer(fakes, "config").away = True
    saga = carry_out(fakes.world, fakes.order(Level.SYSTEM))
    assert saga.state is SagaState.REFUSED and not _owed(fakes)
    assert fakes.live() == fakes.bad.id


def test_a_content_that_is_not_kept_cannot_serve_without_its_store(fakes: Fakes) -> None:
    layer = _layer(fakes, "model")
    layer.lost.add(fakes.good.pins("model")[0].digest)
    layer.away = True
    saga = carry_out(fakes.world, fakes.order(Level.SYSTEM))
    assert saga.state is SagaState.REFUSED and "not kept" in saga.why
