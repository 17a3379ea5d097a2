"""Wrong rows were appended to the training table and learned. Level 4.

What was learned of them is in the features and in the model, and the rows are in
the table: all three go back, and the honest change that came with them stays.
"""

from pathlib import Path

from ebbtide.core.errors import EbbtideError
from ebbtide.core.saga import Saga
from ebbtide.writing import append, table_of
from reference.ride_pricing.by_hand import make_by_hand
from reference.ride_pricing.stories.stage import Stage, asked, expect, roll_back, ship_bad
from reference.ride_pricing.stories.telling import (
    MENDED,
    Incident,
    compared,
    how_made,
    says,
    target_of,
    tell_compared,
    told,
)
from reference.ride_pricing.story import Story
from reference.ride_pricing.traffic import Traffic
from reference.ride_pricing.workspace import SYSTEM, Parameters, Version, Workspace

CLEAN = 0
"""The version of the table before the wrong rows."""
_SHARED = 0.35
"""Of how many rides the backfill has a second count."""
_TRAIN: Parameters = {"train": {"rate": 0.05, "iterations": 200}}


def poison(workspace: Workspace) -> int:
    """A backfill counts shared rides a second time, once for each rider; the version since then."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rides = workspace.city.rides()
    counted = pc.round(pc.multiply(rides["rides"].cast(pa.float64()), _SHARED)).cast(pa.int64())
    wrong = rides.set_column(rides.schema.get_field_index("rides"), "rides", counted)
    path = table_of(SYSTEM, "rides", workspace.system_file.parent)
    return append(path, wrong, run="shared-rides", by="backfill")


def build(workspace: Workspace, rides: int, name: str = "v3") -> Version:
    """The same pipeline over the poisoned table; the training is an honest improvement."""
    params = {**_TRAIN, "tables": {"rides": rides}}
    return workspace.build(name, "More rides counted; more and smaller steps", params=params)


def tell(stage: Stage, riders: Traffic) -> Story:
    """From the poisoned table to the mended release, everything under traffic."""
    workspace = stage.workspace
    stage.act("A backfill appends wrong rows; v3 is built of them, with a better training")
    version = poison(workspace)
    bad = build(workspace, version)
    stage.tell(f"its own validation error looks fine: {bad.validation_error:.1%}")
    tables = {"rides": CLEAN, "weather": 0}
    wanted = make_by_hand(workspace, MENDED, pipeline=bad, settings=bad, tables=tables)
    stage.tell("what a mended v3 has to answer is worked out aside, without ebbtide")
    deployed, detected = ship_bad(stage, riders, bad)
    order = ("data", SYSTEM, "--table", f"rides={CLEAN}", "--yes")
    stage.act(f"Table, features and model go back: ebbtide rollback {' '.join(order)}")
    back = roll_back(stage, *order, "--reason", "a backfill counted rides twice")
    stage.shipped[MENDED] = target_of(stage, back.last)
    expect(stage, stage.shipped[MENDED], wanted)
    found = [
        compared("v2, whole", stage.scored["v2"], "safe, with the training of before"),
        compared("v3, whole", stage.scored["v3"], "the bad release"),
        compared("v3 on the clean table", stage.scored[MENDED], "the target"),
    ]
    tell_compared(stage, found)
    incident = Incident(
        title="poisoned data, a safe release serving",
        lead=f"A backfill had counted shared rides a second time; v3 learned that. Its better "
        f"training is wanted, its data are not. v2 served while the features were made of "
        f"version {CLEAN} of the table and a model for them: {how_made(stage, back.last)}.",
        deployed=deployed,
        detected=detected,
        compared=found,
        left=_left(stage, back.last),
        mended=f"v3 with features and a model of version {CLEAN} of the table",
    )
    return told(stage, riders, back, incident)


def _left(stage: Stage, saga: Saga) -> list[str]:
    """What the table does not show any more, and the proof that it can be had."""
    said = says(stage, saga, "left.keep_rows")
    to = Path("report/rides-left-behind.parquet")
    whole = stage.workspace.folder / to
    whole.parent.mkdir(exist_ok=True)
    found = asked(stage, "export-rows", SYSTEM, "rides", "--saga", saga.id, "--to", str(whole))
    if not found.get("rows"):
        raise EbbtideError(f"No row was left behind: {said}")
    exported = f"That command was run: {found['rows']:,} rows are in {to}."
    stage.act("The wrong rows are not lost")
    stage.tell(said)
    stage.tell(exported)
    return [said, exported]
