"""What the target needs is gone, changed or out of reach: refused, named, nothing touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ebbtide.core.paying import pay_all
from ebbtide.core.planner import Order
from ebbtide.core.saga import Level, Phase, Saga, SagaState
from flows.order import carry_out
from tests import stores
from tests.ride_pricing import Built, Running, running


@contextmanager
def away(*paths: Path) -> Iterator[None]:
    """Move files or folders out of sight, and back."""
    for path in paths:
        path.rename(path.with_name(f"{path.name}.away"))
    try:
        yield
    finally:
        for path in paths:
            path.with_name(f"{path.name}.away").rename(path)


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """Change one byte of a file, keeping its length, and put it back."""
    whole, mode = path.read_bytes(), path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    try:
        yield
    finally:
        path.write_bytes(whole)
        path.chmod(mode)


def refused(system: Running) -> Saga:
    """Order the rollback; it must be refused in preflight with nothing touched."""
    before = stores.shown(system.root, system.journal)
    saga = system.order(to=system.release("v2").id)
    assert saga.state is SagaState.REFUSED, saga.why
    assert stores.shown(system.root, system.journal) == before
    phases = {step.phase for step in system.world.journal.steps(saga.id)}
    assert phases == {Phase.PREFLIGHT}
    return saga


def features_folder(system: Running) -> Path:
    return system.file.state_dir / "releases" / system.release("v2").pins("features")[0].digest


def test_model_bytes_that_changed_in_the_registry(pricing: Running) -> None:
    client = pricing.built.workspace.registry()
    source = str(client.get_model_version("ride-demand", "2").source).rpartition("/")[2]
    artifacts = next(pricing.root.glob(f"mlartifacts/**/{source}/artifacts"))
    model = next(path for path in artifacts.rglob("model.*") if path.is_file())
    with changed(model):
        assert "model demand" in refused(pricing).why
    assert pricing.order(to=pricing.release("v2").id).state is SagaState.COMPLETED


def test_a_byte_of_the_kept_features_that_changed(pricing: Running) -> None:
    file = next(path for path in features_folder(pricing).rglob("*") if path.is_file())
    with changed(file):
        assert file.name in refused(pricing).why


def test_features_that_are_gone_with_their_dvc_objects(pricing: Running) -> None:
    with away(features_folder(pricing), pricing.root / ".dvc/cache"):
        assert "features demand" in refused(pricing).why


def test_features_that_are_gone_are_built_again_from_the_dvc_cache(pricing: Running) -> None:
    with away(features_folder(pricing)):
        saga = pricing.order(to=pricing.release("v2").id)
        assert saga.state is SagaState.COMPLETED, saga.why
        assert stores.folder(features_folder(pricing)) == stores.folder(
            pricing.root / "aside/v2/features"
        )
        rebuilt = features_folder(pricing)
        rebuilt.rename(rebuilt.with_name("rebuilt"))


def test_a_delta_file_that_is_missing(pricing: Running) -> None:
    zones = pricing.root / "tables/zones"
    files = set(stores.table(zones, 0))
    leases = pricing.file.state_dir / "delta"
    with away(*(zones / name for name in files), leases):
        before = stores.shown(pricing.root, pricing.journal)
        saga = pricing.order(to=pricing.release("v1").id)
        assert saga.state is SagaState.REFUSED
        assert "data zones" in saga.why
        assert stores.shown(pricing.root, pricing.journal) == before


def test_a_delta_file_that_is_missing_and_leased(pricing: Running) -> None:
    zones = pricing.root / "tables/zones"
    for name in stores.table(zones, 0):
        (zones / name).unlink()
    saga = pricing.order(to=pricing.release("v1").id)
    assert saga.state is SagaState.COMPLETED, saga.why
    assert pricing.shown() == pricing.as_it_was_at("v1")


def test_a_registry_that_cannot_be_reached(pricing: Running) -> None:
    with away(pricing.root / "mlflow.db"):
        saga = pricing.order(to=pricing.release("v2").id)
        assert saga.state is SagaState.COMPLETED, saga.why
        assert stores.route(pricing.journal) == pricing.release("v2").id
        assert not (pricing.root / "mlflow.db").exists()
        owed = pricing.world.journal.debts("ride-pricing")
        assert "model" in {debt.layer for debt in owed} <= {"model", "prompt"}
    paid, left = pay_all(pricing.world, by="tester")
    assert len(paid) == len(owed) and not left
    assert pricing.shown() == pricing.as_it_was_at("v2")


def test_a_model_version_that_was_deleted(pricing: Running) -> None:
    number = pricing.registered_again("2")
    pin = pricing.world.layers["model"].pin("demand", number)
    release = pricing.release("v2").with_pins("model", pin)
    recorded = pricing.built.recorded["v2"]
    pricing.world.journal.add_release(release, recorded.evidence, recorded.golden)
    pricing.built.workspace.registry().delete_model_version("ride-demand", number)
    before = stores.shown(pricing.root, pricing.journal)
    saga = pricing.order(to=release.id, accept_unproved=True)
    assert saga.state is SagaState.REFUSED
    assert "model demand" in saga.why
    assert number in saga.why
    assert stores.shown(pricing.root, pricing.journal) == before


def test_no_replica_no_cut_over(built: Built, tmp_path: Path) -> None:
    with running(built, tmp_path) as system:
        world = replace(system.world, policy=replace(system.world.policy, warm_within=0.3))
        order = Order(Level.PROMOTION, by="tester", to=system.release("v1").id)
        saga = carry_out(world, order)
        assert saga.state is SagaState.TAKEN_BACK
        assert "ebbtide serve ride-pricing" in saga.why
        assert stores.route(system.journal) == ""
