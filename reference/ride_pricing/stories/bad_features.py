"""A new commit of the pipeline makes wrong features; what else came with it shall stay. Level 3.

The release also caps surge, as was promised to riders, and was made of newer
weather. So no earlier release is what is wanted: the earlier pipeline has to run
over today's data. A safe release serves meanwhile.
"""

from collections.abc import Mapping
from datetime import timedelta

from ebbtide.writing import append, table_of
from reference.ride_pricing.by_hand import make_by_hand
from reference.ride_pricing.stories.stage import Stage, expect, roll_back, ship_bad
from reference.ride_pricing.stories.telling import (
    MENDED,
    Incident,
    compared,
    how_made,
    target_of,
    tell_compared,
    told,
)
from reference.ride_pricing.story import Story
from reference.ride_pricing.traffic import Traffic
from reference.ride_pricing.workspace import SYSTEM, Version, Workspace

_WEEK = timedelta(days=7)


def more_weather(workspace: Workspace) -> int:
    """The forecast of one more week comes in, as honest rows; the version that has it."""
    import pyarrow.compute as pc

    seen = workspace.city.weather()
    column = seen.schema.get_field_index("observed_at")
    later = pc.add(seen["observed_at"], _WEEK)
    new = seen.set_column(column, "observed_at", later)
    new = new.filter(pc.greater(new["observed_at"], pc.max(seen["observed_at"])))
    path = table_of(SYSTEM, "weather", workspace.system_file.parent)
    return append(path, new, run="forecast", by="weather-feed")


def build(workspace: Workspace, weather: int, name: str = "v3") -> Version:
    """The bad pipeline, the promised cap on surge, a model trained on what the pipeline makes."""
    return workspace.build(
        name,
        "Rain from all observations near a ride; surge capped at 2.6",
        files=["v3", "capped"],
        params={"tables": {"weather": weather}},
    )


def by_hand(
    workspace: Workspace, good: Version, bad: Version, tables: Mapping[str, int]
) -> Version:
    """What is wanted: the good pipeline over today's tables, with the bad release's settings."""
    return make_by_hand(workspace, MENDED, pipeline=good, settings=bad, tables=tables)


def tell(stage: Stage, riders: Traffic) -> Story:
    """From the bad features to the mended release, everything under traffic."""
    workspace = stage.workspace
    stage.act("More weather comes in; v3 is built: another pipeline, and a cap on surge")
    weather = more_weather(workspace)
    bad = build(workspace, weather)
    stage.tell(f"its own validation error looks fine: {bad.validation_error:.1%}")
    good = workspace.versions["v2"]
    wanted = by_hand(workspace, good, bad, {"rides": 0, "weather": weather})
    stage.tell("what a mended v3 has to answer is worked out aside, without ebbtide")
    deployed, detected = ship_bad(stage, riders, bad)
    stage.act(f"The features go back, the cap stays: ebbtide rollback features {SYSTEM} --yes")
    back = roll_back(stage, "features", SYSTEM, "--yes", "--reason", "prices surge")
    stage.shipped[MENDED] = target_of(stage, back.last)
    expect(stage, stage.shipped[MENDED], wanted)
    found = [
        compared("v2, whole", stage.scored["v2"], "safe, but without the cap"),
        compared("v3, whole", stage.scored["v3"], "the bad release"),
        compared("v3 on v2's pipeline", stage.scored[MENDED], "the target"),
    ]
    tell_compared(stage, found)
    incident = Incident(
        title="bad features, a safe release serving",
        lead="A new commit of the pipeline counted rides twice. The cap on surge that was "
        "released with it was promised to riders, and the weather is newer: no earlier release "
        "is what is wanted. v2 served while its pipeline ran aside over today's tables; a model "
        f"of exactly those features and that training was looked for: "
        f"{how_made(stage, back.last)}.",
        deployed=deployed,
        detected=detected,
        compared=found,
        mended="v3 with v2's pipeline over today's tables, and the model of those features",
    )
    return told(stage, riders, back, incident)
