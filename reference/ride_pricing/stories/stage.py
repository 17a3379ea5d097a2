"""What every story is played on: a workspace, a gateway, riders, and the acts that they share."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ebbtide.bootstrap import open_world
from ebbtide.core.errors import EbbtideError
from ebbtide.core.planner import Order, serving
from ebbtide.core.ports import World
from ebbtide.core.recording import record, resolve
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Saga, SagaState
from flows.order import carry_out
from reference.ride_pricing import workspace as workspaces
from reference.ride_pricing.answers import Answers, answers, write_expected
from reference.ride_pricing.commands import environment, follow
from reference.ride_pricing.story import Mark
from reference.ride_pricing.traffic import Served, Traffic
from reference.ride_pricing.workspace import PROMPT, SYSTEM, Version, Workspace

ALARM = 0.15
"""Median price error at which somebody is woken: the good releases stay far below."""
_WINDOW = 4.0
"""Seconds of traffic that the alarm looks at, all of them after the deployment."""
_CALM = 6.0
"""Seconds that a good release serves before the next is shipped, so that it counts as proved."""
_READY_WITHIN = 60.0
_MADE_WITHIN = 120.0
"""Seconds after which the answers of a release that a rollback has made are known at the latest."""
_INDENT = 9


@dataclass
class Stage:
    """What the acts of a story share."""

    workspace: Workspace
    world: World
    say: Console
    gateway: "subprocess.Popen[bytes]"
    shipped: dict[str, Release] = field(default_factory=dict)
    scored: dict[str, Answers] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def act(self, text: str) -> None:
        self.say.print(f"\n[bold]{time.monotonic() - self.began:5.0f} s  {text}[/]")

    def tell(self, text: str) -> None:
        self.say.print(Padding(Text.from_markup(text), (0, 0, 0, _INDENT)), highlight=False)

    def line(self, text: str) -> None:
        """A line of another program, as it is."""
        shown = f"{' ' * _INDENT}{text}"
        self.say.print(shown, highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class RolledBack:
    """What one order has done."""

    ordered: float
    """When the command was given, seconds since the epoch."""
    sagas: Sequence[Saga]
    """Oldest first: where a safe release serves meanwhile, the way to it is one of its own."""

    @property
    def last(self) -> Saga:
        return self.sagas[-1]


@contextmanager
def staged(folder: Path, say: Console) -> Iterator[Stage]:
    """A workspace with v1 built, and a gateway that waits for its first release."""
    began = time.monotonic()
    say.print("\n[bold]    0 s  A workspace is made: git, DVC, Delta tables, MLflow[/]")
    made = workspaces.create(
        folder, progress=lambda line: say.print(f"         {line}", highlight=False)
    )
    made.build_v1()
    world = open_world(SYSTEM, made.system_file.parent)
    command = [sys.executable, "-m", "ebbtide", "serve", SYSTEM, "--port", "0"]
    with (folder / "gateway.log").open("wb") as log:
        gateway = subprocess.Popen(
            [*command, "--systems", str(made.system_file.parent)],
            cwd=folder,
            env=environment({"OMP_NUM_THREADS": "1"}),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield Stage(made, world, say, gateway, began=began)
    finally:
        gateway.terminate()
        gateway.wait()


@contextmanager
def under_traffic(stage: Stage) -> Iterator[Traffic]:
    """v1 serves, then v2 for long enough to be proved; riders ask from before v2 to the end."""
    stage.act("Release v1 is recorded and promoted: the first to serve")
    ship(stage, stage.workspace.versions["v1"])
    url = stage.world.journal.replicas(SYSTEM, _READY_WITHIN)[0].url
    workspace = stage.workspace
    out = workspace.folder / "aside/traffic.jsonl"
    riders = Traffic(
        url,
        questions=workspace.questions,
        expected=workspace.expected,
        out=out,
        patience=_MADE_WITHIN,
    )
    with riders:
        stage.act("Riders ask for prices, and go on asking; v2 is built meanwhile, then shipped")
        ship(stage, workspace.build_v2())
        time.sleep(_CALM)
        yield riders


def ship(stage: Stage, version: Version) -> None:
    """Record a version as a release and promote it, as `ebbtide release` and `promote` do."""
    release = recorded(stage.workspace, stage.world, version)
    stage.shipped[version.name] = release
    expect(stage, release, version)
    until(lambda: bool(stage.world.serving.replicas()), "the gateway to start", stage.gateway)
    order = Order(Level.PROMOTION, by="demo", to=release.id, reason=version.why)
    saga = carry_out(stage.world, order)
    if saga.state is not SagaState.COMPLETED:
        raise EbbtideError(f"{version.name} was not promoted: {saga.why}")
    took = (saga.closed_at or saga.opened_at) - saga.opened_at
    stage.tell(f"{version.name} serves as release {release.short}, promoted in {took:.1f} s")


def recorded(workspace: Workspace, world: World, version: Version) -> Release:
    """A version as a release in the journal: what git has at its commit, its model and prompt."""
    asks = {
        layer: dict.fromkeys(world.layers[layer].names, version.commit)
        for layer in ("features", "config", "infra")
    }
    asks |= {"model": {"demand": version.model}, "prompt": {PROMPT: version.prompt}}
    release = resolve(world, asks)
    record(world, release, by="demo", note=f"{version.name}: {version.why}")
    return release


def expect(stage: Stage, release: Release, version: Version) -> None:
    """Work out aside what a release of a version must answer; the riders judge by it."""
    found = stage.scored.get(version.name) or answers(stage.workspace, version)
    stage.scored[version.name] = found
    write_expected(found, stage.workspace.expected / f"{release.id}.json")


def ship_bad(stage: Stage, riders: Traffic, version: Version) -> tuple[Mark, Mark]:
    """Ship what is bad and wait until somebody is woken: when it served, when it was seen."""
    ship(stage, version)
    route = serving(stage.world)
    deployed = Mark(f"{version.name} deployed", route.since if route else 0.0)
    stage.act("Prices are watched")
    until(lambda: _too_high(riders, deployed.at), "the price error to rise", stage.gateway)
    stage.tell(f"[red]the median price is {_recent_error(riders.served()):.0%} off: detected[/]")
    return deployed, Mark("detected", time.time())


def roll_back(stage: Stage, *words: str) -> RolledBack:
    """`ebbtide rollback` as a person types it.

    Raises `EbbtideError` where it did not end as it should.
    """
    ordered = time.time()
    before = {saga.id for saga in stage.world.journal.sagas(SYSTEM)}
    follow(
        *_command("rollback", *words),
        cwd=stage.workspace.folder,
        env=_surroundings(stage),
        line=stage.line,
    )
    found = [saga for saga in stage.world.journal.sagas(SYSTEM) if saga.id not in before]
    return RolledBack(ordered, sorted(found, key=lambda saga: saga.opened_at))


def asked(stage: Stage, *words: str) -> dict[str, Any]:
    """What an `ebbtide` command answers with `--json`, whatever its exit code."""
    ended = subprocess.run(
        _command(*words, "--json"),
        cwd=stage.workspace.folder,
        env=environment(_surroundings(stage)),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found: dict[str, Any] = json.loads(ended.stdout)
    except ValueError as fault:
        raise EbbtideError(f"`ebbtide {' '.join(words)}` said: {ended.stderr}") from fault
    return found


def until(there: Callable[[], bool], what: str, gateway: "subprocess.Popen[bytes]") -> None:
    """Wait for something; EbbtideError where it does not come, or the gateway has ended."""
    deadline = time.monotonic() + _READY_WITHIN
    while not there():
        if gateway.poll() is not None:
            raise EbbtideError("The gateway has ended.", remedy="Its log is in gateway.log.")
        if time.monotonic() > deadline:
            raise EbbtideError(f"Waited {_READY_WITHIN:g} s for {what} in vain.")
        time.sleep(0.05)


def calm() -> None:
    """A while in which nothing happens but traffic."""
    time.sleep(_CALM)


def _too_high(riders: Traffic, deployed: float) -> bool:
    return time.time() - deployed > _WINDOW and _recent_error(riders.served()) > ALARM


def _recent_error(served: list[Served]) -> float:
    """Median price error of the last seconds; 0 where nobody was answered."""
    since = time.time() - _WINDOW
    errors = [each.price_error for each in served if each.at > since and each.price_error]
    return median(errors) if errors else 0.0


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "ebbtide", *words]


def _surroundings(stage: Stage) -> dict[str, str]:
    return {
        "EBBTIDE_SYSTEMS": str(stage.workspace.system_file.parent),
        "COLUMNS": str(stage.say.width - _INDENT),
    }
