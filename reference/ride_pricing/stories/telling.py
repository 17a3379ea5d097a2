"""From what happened to the story of it: the sagas as the journal has them, the riders' counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ebbtide.core.release import Release
from ebbtide.core.saga import Saga, StepRecord
from reference.ride_pricing.answers import Answers
from reference.ride_pricing.stories.stage import RolledBack, Stage, calm
from reference.ride_pricing.story import (
    ChangedThing,
    Compared,
    Course,
    Mark,
    Shipped,
    Story,
    TimedStep,
)
from reference.ride_pricing.traffic import Traffic
from reference.ride_pricing.workspace import SYSTEM

SWITCH = "route.switch"
MENDED = "mended"
"""The name of a release that a rollback has composed."""


@dataclass(frozen=True, slots=True)
class Incident:
    """What a story has to say of its own."""

    title: str
    lead: str
    deployed: Mark
    detected: Mark
    bad: str = "v3"
    compared: Sequence[Compared] = ()
    compared_title: str = "What each would have done to the prices"
    refusal: str = ""
    left: Sequence[str] = ()
    mended: str = ""
    """What the release is that the rollback has composed; empty: it took an earlier one."""


def told(stage: Stage, riders: Traffic, back: RolledBack, incident: Incident) -> Story:
    """The riders ask a while longer, then all is counted."""
    calm()
    sagas = back.sagas
    away, there = (_switched(stage, saga) for saga in (sagas[0], back.last))
    alone = len(sagas) == 1
    return Story(
        system=SYSTEM,
        served=riders.stop(),
        shipped=list(_shipped(stage, incident)),
        deployed=incident.deployed,
        detected=incident.detected,
        rolled_back=Mark("rolled back" if alone else "safe release serves", away),
        arrived=None if alone else Mark("target serves", there),
        title=incident.title,
        lead=incident.lead,
        changes=_differences(stage, stage.shipped[incident.bad], back.last.target),
        courses=[_course(stage, saga, n, len(sagas)) for n, saga in enumerate(sagas)],
        compared=incident.compared,
        compared_title=incident.compared_title,
        refusal=incident.refusal,
        left=incident.left,
        facts=dict(_facts(stage, back, away, there)),
    )


def compared(name: str, found: Answers, note: str) -> Compared:
    return Compared(name, found.demand_excess, found.demand_error, found.price_error, note)


def tell_compared(stage: Stage, found: Sequence[Compared]) -> None:
    for each in found:
        stage.tell(f"{each.name:<28} price error {each.price_error:6.1%}   {each.note}")


def target_of(stage: Stage, saga: Saga) -> Release:
    return stage.world.journal.release(saga.target, SYSTEM)


def how_made(stage: Stage, saga: Saga) -> str:
    """Whether the target's model was there or had to be trained, in a few words."""
    (model,) = target_of(stage, saga).pins("model")
    version = model.at["version"]
    before = [each for each in stage.workspace.versions.values() if each.model == version]
    if before:
        return f"the one of {before[0].name}, version {version}, was found by its lineage"
    return f"no registered one had that lineage, so one was trained: version {version}"


def says(stage: Stage, saga: Saga, step: str) -> str:
    """What the proof of a step found, in words; empty where the saga had no such step."""
    found = next((each for each in stage.world.journal.steps(saga.id) if each.name == step), None)
    return found.why if found else ""


def _facts(stage: Stage, back: RolledBack, away: float, there: float) -> Iterator[tuple[str, str]]:
    for saga in back.sagas:
        yield f"Saga {saga.id}", f"level {saga.level}, {saga.state.value}"
        if quality := says(stage, saga, "quality.trained_as_well"):
            yield "The model", quality
    opened, closed = back.sagas[0].opened_at, back.last.closed_at or there
    yield "From the command to the bad release serving nobody", f"{away - back.ordered:.2f} s"
    yield "Of that from the saga's opening", f"{away - opened:.2f} s"
    if len(back.sagas) > 1:
        yield "From the command to the target serving", f"{there - back.ordered:.1f} s"
    yield "Whole rollback", f"{closed - back.ordered:.2f} s"


def _switched(stage: Stage, saga: Saga) -> float:
    """When the last replica had followed the route."""
    steps = stage.world.journal.steps(saga.id)
    switch = next(step for step in steps if step.name == SWITCH)
    return switch.proved_at or switch.intent_at


def _course(stage: Stage, saga: Saga, n: int, of: int) -> Course:
    title = "Its steps"
    if of > 1:
        title = "Its steps, to the safe release" if n < of - 1 else "Its steps, to the target"
    return Course(title, [_step(step) for step in stage.world.journal.steps(saga.id)])


def _step(step: StepRecord) -> TimedStep:
    took = (step.proved_at or step.intent_at) - step.intent_at
    return TimedStep(step.phase.value, step.name, step.why, took, step.verdict)


def _differences(stage: Stage, bad: Release, target: str) -> list[ChangedThing]:
    """Every thing of the bad release beside the same thing of what serves since."""
    good = stage.world.journal.release(target, SYSTEM)
    return [
        ChangedThing(layer, pin.name, str(pin), str(good.pin(layer, pin.name) or "nothing"))
        for layer, pins in bad.layers.items()
        for pin in pins
    ]


def _shipped(stage: Stage, incident: Incident) -> Iterator[Shipped]:
    versions = stage.workspace.versions
    for name, release in stage.shipped.items():
        what = versions[name].why if name in versions else incident.mended
        yield Shipped(release.id, name, what, bad=name == incident.bad)
