"""Only the model is bad: it was trained with a wrong parameter. Level 1.

Everything else of the release is as it was, so the model alone goes back.
"""

from reference.ride_pricing.stories.stage import Stage, roll_back, ship_bad
from reference.ride_pricing.stories.telling import Incident, compared, tell_compared, told
from reference.ride_pricing.story import Story
from reference.ride_pricing.traffic import Traffic
from reference.ride_pricing.workspace import SYSTEM, Version, Workspace

_RATE = 0.004
"""A twentieth of what it should be: it stops far from where it should have come to."""


def build(workspace: Workspace, name: str = "v3") -> Version:
    """The workspace as it is, its model trained with a twentieth of the learning rate."""
    return workspace.build(name, "Learn more slowly", params={"train": {"rate": _RATE}})


def tell(stage: Stage, riders: Traffic) -> Story:
    """From the bad model to the good one, everything under traffic."""
    stage.act("v3 is built: the same features, the model trained with another learning rate")
    bad = build(stage.workspace)
    good = stage.workspace.versions["v2"]
    stage.tell(
        f"its own validation error says so, and nobody looks: {bad.validation_error:.1%}, "
        f"v2's was {good.validation_error:.1%}"
    )
    deployed, detected = ship_bad(stage, riders, bad)
    found = [
        compared("v2", stage.scored["v2"], "the target"),
        compared("v3", stage.scored["v3"], "the bad model"),
    ]
    tell_compared(stage, found)
    stage.act(f"The model alone goes back: ebbtide rollback model {SYSTEM} --yes")
    back = roll_back(stage, "model", SYSTEM, "--yes", "--reason", "prices are off")
    incident = Incident(
        title="a bad model, taken back",
        lead=f"The model was trained with a learning rate of {_RATE} in place of 0.08. Features, "
        "tables, fares and prompts are as they were, so level 1 is deep enough: an alias and a "
        "route, nothing else.",
        deployed=deployed,
        detected=detected,
        compared=found,
    )
    return told(stage, riders, back, incident)
