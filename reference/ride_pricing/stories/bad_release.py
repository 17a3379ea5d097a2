"""A bad release of features and model together: the published incident. Level 2.

The model alone cannot go back; the whole system can, while riders go on asking.
"""

from ebbtide.core.errors import EbbtideError
from ebbtide.core.saga import SagaState
from reference.ride_pricing.answers import answers
from reference.ride_pricing.stories.stage import Stage, asked, roll_back, ship_bad
from reference.ride_pricing.stories.telling import Incident, compared, tell_compared, told
from reference.ride_pricing.story import Compared, Story
from reference.ride_pricing.traffic import Traffic
from reference.ride_pricing.workspace import SYSTEM

_LEAD = (
    "A new feature pipeline counted rides twice and changed the unit of the lags; the model was "
    "trained on that and fits it. Neither can go back alone."
)


def tell(stage: Stage, riders: Traffic) -> Story:
    """From the bad release to the good one, everything under traffic."""
    stage.act("v3 is built: a new feature pipeline and a new model together")
    bad = stage.workspace.build_v3_bad()
    stage.tell(f"its own validation error looks fine: {bad.validation_error:.1%}")
    deployed, detected = ship_bad(stage, riders, bad)
    refusal = _model_alone(stage)
    combinations = _combinations(stage)
    stage.act(f"The whole system: ebbtide rollback {SYSTEM} --yes")
    back = roll_back(stage, SYSTEM, "--yes", "--reason", "prices surge")
    incident = Incident(
        title="a bad release, taken back whole",
        lead=_LEAD,
        deployed=deployed,
        detected=detected,
        compared=combinations,
        compared_title="What putting back the model alone would have done",
        refusal=refusal,
    )
    return told(stage, riders, back, incident)


def _model_alone(stage: Stage) -> str:
    """Try what most teams can do, the model alone; the compatibility gate's words."""
    stage.act(f"The model alone? ebbtide rollback model {SYSTEM} --yes")
    found = asked(stage, "rollback", "model", SYSTEM, "--yes", "--reason", "surge")
    if found["state"] != SagaState.REFUSED.value:
        raise EbbtideError(f"Putting the model back alone ended as {found['state']}.")
    stage.tell(f"[yellow]refused[/]: {found['why']}")
    return str(found["why"])


def _combinations(stage: Stage) -> list[Compared]:
    """What each combination would do to the prices, scored aside against the truth."""
    versions = stage.workspace.versions
    mixed = answers(stage.workspace, versions["v3"], model_of=versions["v2"])
    found = [
        compared("v2, whole", stage.scored["v2"], "the target"),
        compared("v3, whole", stage.scored["v3"], "the bad release"),
        compared("v2's model on v3's features", mixed, "the model put back alone"),
    ]
    tell_compared(stage, found)
    return found
