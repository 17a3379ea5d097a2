"""Whole sagas over a manifest repository: it goes with the release, and back with it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ebbtide.adapters.git.mixed import Mixed
from ebbtide.adapters.system.file import find_system
from ebbtide.bootstrap import layers_of
from ebbtide.core.errors import Unknown
from ebbtide.core.gates import failed
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.saga import Level, Phase, Saga, SagaState
from ebbtide.testing import fake_world
from flows.order import carry_out, plan
from tests.integration.forge import VALUES, Cluster, Forge

FILES = {"apps/values.yaml": {"model.version": "model/main"}}


class Served:
    """A system whose serving follows manifests, and whose model ebbtide knows."""

    def __init__(self, folder: Path, forge: Forge, world: World, **gitops: Any) -> None:
        self.forge = forge
        layers = {"model": world.layers["model"], "infra": forge.gitops(files=FILES, **gitops)}
        self.world = replace(world, layers=layers)

    def release(self, version: str) -> str:
        found = resolve(self.world, {"model": {"main": version}})
        record(self.world, found, by="tester")
        return found.id

    def order(self, level: Level, **wishes: Any) -> Saga:
        return carry_out(self.world, Order(level, by="tester", **wishes))


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


@pytest.fixture
def cluster(forge: Forge) -> Iterator[Cluster]:
    made = Cluster(forge)
    yield made
    made.close()


@pytest.fixture
def serve(tmp_path: Path, forge: Forge) -> Iterator[Callable[..., Served]]:
    worlds: list[World] = []

    def make(gate: Any = None, **gitops: Any) -> Served:
        gates = {Phase.PROVE: {"own": gate}} if gate else {}
        worlds.append(fake_world(tmp_path, layers=("model",), own_gates=gates))
        return Served(tmp_path, forge, worlds[-1], **gitops)

    yield make
    for world in worlds:
        world.journal.close()


def test_a_release_writes_its_model_and_a_rollback_the_one_before(
    serve: Callable[..., Served], forge: Forge, cluster: Cluster
) -> None:
    system = serve(health=cluster.health())
    before = forge.log()
    for version in ("1", "2"):
        saga = system.order(Level.PROMOTION, to=system.release(version))
        assert saga.state is SagaState.COMPLETED, saga.why
        assert forge.version() == version
    saga = system.order(Level.SYSTEM)
    assert saga.state is SagaState.COMPLETED, saga.why
    assert forge.version() == "1"
    assert forge.log()[3:] == before


def test_the_model_alone_goes_back_and_the_manifests_name_it(
    serve: Callable[..., Served], forge: Forge
) -> None:
    system = serve()
    for version in ("1", "2"):
        system.order(Level.PROMOTION, to=system.release(version))
    order = Order(Level.MODEL, by="tester", models={"main": "1"})
    assert "settings.publish_infra" in [step.name for step in plan(system.world, order).plan.steps]
    saga = system.order(Level.MODEL, models={"main": "1"})
    assert saga.state is SagaState.COMPLETED, saga.why
    assert forge.version() == "1"
    live = system.world.journal.route("fake")
    assert live and live.release == system.release("1"), "it is the release that was recorded"


def test_a_cluster_that_does_not_arrive_is_taken_back(
    serve: Callable[..., Served], forge: Forge, cluster: Cluster
) -> None:
    system = serve(health=cluster.health(within=1.0))
    first, second = system.release("1"), system.release("2")
    assert system.order(Level.PROMOTION, to=first).state is SagaState.COMPLETED
    history = forge.log()
    cluster.stuck = "1"
    saga = system.order(Level.PROMOTION, to=second)
    assert saga.state is SagaState.TAKEN_BACK and "reports 1, not 2" in saga.why
    assert forge.version() == "1" and forge.log()[2:] == history, "taken back by a new commit"
    route = system.world.journal.route("fake")
    assert route and route.release == first


def test_a_cluster_that_does_not_come_back_needs_a_human(
    serve: Callable[..., Served], cluster: Cluster
) -> None:
    system = serve(health=cluster.health(within=1.0))
    assert system.order(Level.PROMOTION, to=system.release("1")).state is SagaState.COMPLETED
    cluster.stuck = "wrong"
    saga = system.order(Level.PROMOTION, to=system.release("2"))
    assert saga.state is SagaState.NEEDS_HUMAN
    assert any("settings.publish_infra" in left for left in saga.left)


def test_somebody_elses_commit_is_not_undone_with_ours(
    serve: Callable[..., Served], forge: Forge
) -> None:
    def meddle(*_: object) -> Any:
        forge.commit({"apps/values.yaml": VALUES.replace("'0'", "'99'")})
        return failed("on purpose")

    system = serve(meddle)
    saga = system.order(Level.PROMOTION, to=system.release("1"))
    assert saga.state is SagaState.NEEDS_HUMAN
    assert any("other manifests" in left for left in saga.left)
    assert forge.version() == "99"


SYSTEM = """
system: shop
layers:
  infra:
    host: {path: serving, link: live/serving}
    cluster: {kind: gitops, repository: manifests.git, branch: main, files: {apps/values.yaml: {}}}
"""


def test_infra_may_have_both_kinds(tmp_path: Path, forge: Forge) -> None:
    folder = tmp_path / "configs" / "systems"
    folder.mkdir(parents=True)
    (folder / "shop.yaml").write_text(SYSTEM)
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "limits.yaml").write_text("a: 1\n")
    forge.run("init", "-q")
    forge.run("add", "serving")
    forge.run("commit", "-qm", "x")
    infra = layers_of(find_system("shop", folder))["infra"]
    assert isinstance(infra, Mixed) and infra.names == ("host", "cluster")
    for name, file in (("host", "limits.yaml"), ("cluster", "apps/values.yaml")):
        pin, was = infra.pin(name), infra.live(name)
        infra.prepare(pin)
        infra.move(name, pin, only_from=(was,), note="s")
        live = infra.live(name)
        assert infra.problems(pin) == [] and live and live.digest == pin.digest
        assert (infra.path(pin) / file).read_text()
    assert (tmp_path / "live/serving/limits.yaml").read_text() == "a: 1\n"
    with pytest.raises(Unknown, match="host, cluster"):
        infra.live("other")
