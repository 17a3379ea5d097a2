"""What a gateway holds warm, and that it goes on serving where a release cannot be loaded."""

import gc
import sys
from dataclasses import replace

import pytest

from ebbtide.core.journal import Route
from ebbtide.core.ports import Policy
from ebbtide.core.release import Release
from ebbtide.core.tenure import Tenure
from ebbtide.entrypoints.gateway.warm import wanted
from tests.integration.gateway_fixtures import (  # noqa: F401 - fixtures
    Running,
    gateway,
    marked,
    running,
    says,
    until,
)
from tests.integration.serving_world import MLFLOW_WARNS, SYSTEM, Marked

# ruff: noqa: F811 - pytest's way to ask for a fixture

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNS)


def modules_of(release: Release) -> list[str]:
    """The release's own code in this process: gone as soon as nothing holds the release."""
    gc.collect()
    digest = release.pins("infra")[0].digest[:16]
    return [name for name in sys.modules if name.startswith(f"ebbtide_pinned_{digest}")]


def tenure(release: str, epoch: int, proved: bool = True) -> Tenure:
    return Tenure(release, epoch, "saga", float(epoch), None, proved)


def route(release: str, candidate: str = "") -> Route:
    return Route(SYSTEM, release, 9, "token", candidate, "saga", 0.0)


@pytest.mark.parametrize(
    ("at", "tenures", "expected"),
    [
        (None, [], ()),
        (route(""), [], ()),
        (route("", "a"), [], ("a",)),
        (route("a"), [tenure("a", 1)], ("a",)),
        (route("b", "c"), [tenure("b", 2), tenure("a", 1)], ("b", "c", "a")),
        (
            route("a"),
            [tenure("a", 4), tenure("bad", 3, False), tenure("a", 2), tenure("old", 1)],
            ("a", "bad", "old"),
        ),
        (
            route("d"),
            [tenure("d", 4, False), tenure("c", 3, False), tenure("b", 2, False), tenure("a", 1)],
            ("d", "c", "a"),
        ),
        (route("b", "a"), [tenure("b", 3), tenure("", 2, False), tenure("a", 1)], ("b", "a")),
    ],
)
def test_live_candidate_previous_and_fallback_are_wanted(
    at: Route | None, tenures: list[Tenure], expected: tuple[str, ...]
) -> None:
    assert wanted(at, tenures) == expected


def test_releases_that_are_no_longer_wanted_are_let_go(marked: Marked, gateway: Running) -> None:
    made = [marked.release(f"v{n}") for n in range(4)]
    for release in made:
        gateway.serves(marked.switch(release))
    gateway.holds(*(release.id for release in made[1:]))
    with marked.saga() as lease:
        marked.journal.set_candidate(lease, made[0].id, only_from=[""])
        gateway.holds(*(release.id for release in made))
        assert says(gateway.client.ask()) == "v3"
        marked.journal.set_candidate(lease, "", only_from=[made[0].id])
        gateway.holds(*(release.id for release in made[1:]))
    until(lambda: not modules_of(made[0]), "its memory is free")
    assert modules_of(made[1])


@pytest.mark.parametrize(
    "code",
    [
        "raise OSError('no such driver')",
        "import sys; sys.exit('no such driver')",
        "def load(parts): raise RuntimeError('no such driver')",
    ],
)
def test_a_candidate_that_cannot_be_loaded_is_said_and_what_serves_goes_on(
    marked: Marked, gateway: Running, code: str
) -> None:
    good, broken = marked.release("good"), marked.release("broken", code)
    gateway.serves(marked.switch(good))
    with marked.saga() as lease:
        marked.journal.set_candidate(lease, broken.id, only_from=[""])
        report = until(lambda: (found := gateway.report()) and found.refused and found, "refused")
        assert "no such driver" in report.refused[broken.id]
        assert broken.id not in report.loaded
        assert says(gateway.client.ask()) == "good"
        marked.journal.set_candidate(lease, "", only_from=[broken.id])
    until(lambda: (found := gateway.report()) and not found.refused, "the refusal is forgotten")


def test_a_route_to_a_release_that_cannot_be_loaded_leaves_the_old_one_serving(
    marked: Marked, gateway: Running
) -> None:
    good, broken = marked.release("good"), marked.release("broken", "raise OSError('gone')")
    gateway.serves(marked.switch(good))
    epoch = marked.switch(broken)
    report = until(lambda: (found := gateway.report()) and found.refused and found, "refused")
    assert (report.release, report.epoch) == (good.id, epoch - 1)
    answer = gateway.client.ask()
    assert (says(answer), answer.headers["x-ebbtide-epoch"]) == ("good", "1")
    gateway.serves(marked.switch(good))


def test_a_load_that_hangs_is_given_up_and_the_next_one_is_made(marked: Marked) -> None:
    world = replace(marked.world, policy=Policy(warm_within=1.0))
    good = marked.release("good")
    hangs = marked.release(
        "hangs", "def load(parts):\n import threading\n threading.Event().wait()"
    )
    other = marked.release("other")
    with running(marked, world=world) as gateway:
        marked.switch(good)
        until(lambda: gateway.client.ask().status_code == 200, "good serves")
        with marked.saga() as lease:
            marked.journal.set_candidate(lease, hangs.id, only_from=[""])
            until(lambda: (found := gateway.report()) and hangs.id in found.refused, "given up")
            marked.journal.set_candidate(lease, other.id, only_from=[hangs.id])
            gateway.holds(good.id, other.id)
