"""Features made anew from today's data: of what is live, and of what it would go back to.

No Prefect here: the command line and the flow do the same.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ebbtide.core.composing import with_data_of_today
from ebbtide.core.default_target import in_cool_down, release_before
from ebbtide.core.errors import AlreadyLive, EbbtideError, GateNotPassed
from ebbtide.core.making import as_far_as_made, maker
from ebbtide.core.materialisations import families
from ebbtide.core.planner import serving
from ebbtide.core.ports import World
from ebbtide.core.recording import record
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, Move, Saga, SagaState
from ebbtide.core.step import qualified
from tasks import contents, gates

GATES = (
    contents.data_meet_expectations,
    contents.features_meet_expectations,
    contents.features_fit_signature,
    contents.features_are_like_before,
    gates.made_layers_fit,
)
"""What features must pass aside before they stand for a release that does not serve."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh came to."""

    saga: Saga | None = None
    """None: the live features are of today's data already."""
    before: str = ""
    """The release before the live one, with features of today's data; empty: none."""
    is_new: bool = False
    """It was made just now."""
    why: str = ""
    """Why the release before could not be refreshed."""

    @property
    def moved(self) -> bool:
        """The live system is where it should be."""
        return self.saga is None or self.saga.state is SagaState.COMPLETED

    @property
    def said(self) -> str:
        """In a sentence."""
        live = "Nothing new." if self.saga is None else f"The live features are {self.saga.state}."
        if self.why:
            return f"{live} The release before could not be refreshed: {self.why}"
        if self.is_new:
            return f"{live} The release before it, {self.before[:12]}, is refreshed as well."
        return live


def refresh(world: World, carry_out: Callable[[], Saga], *, by: str) -> Refreshed:
    """Refresh what is live, by carrying out the order, and in its cool-down the release before.

    Raises a `Refused` where the order never began, but for `AlreadyLive`.
    """
    try:
        saga: Saga | None = carry_out()
    except AlreadyLive:
        saga = None
    if saga is not None and saga.state is not SagaState.COMPLETED:
        return Refreshed(saga)
    return refresh_before(world, saga, by=by)


def refresh_before(world: World, saga: Saga | None, *, by: str) -> Refreshed:
    """What comes after the live release was refreshed; what fails here leaves that as it is."""
    before = to_be_refreshed(world)
    if before is None:
        return Refreshed(saga)
    try:
        found = _made_aside(world, before, by)
    except EbbtideError as fault:
        return Refreshed(saga, before.id, why=str(fault))
    return Refreshed(saga, (found or before).id, is_new=found is not None)


def to_be_refreshed(world: World) -> Release | None:
    """The release before, while the live one could still have to be rolled back."""
    route = serving(world)
    if route is None:
        return None
    live = world.journal.release(route.release, world.system)
    if not in_cool_down(world, live):
        return None
    before = release_before(world, live)
    known = families(world.journal, world.system)
    same = before is None or known.root(before.id) == known.root(live.id)
    return None if same else before


def _made_aside(world: World, before: Release, by: str) -> Release | None:
    """The release with features of today's data, recorded once its gates were passed.

    None: it has them already. Raises `GateNotPassed`, `NotRestorable`, `Unreachable`.
    """
    target = _made(world, with_data_of_today(world, before))
    if target.id == before.id:
        return None
    move = Move("", world.system, Level.REFRESH, before, target, 0, by, "refreshed aside")
    findings = {qualified(gate): gate(world, move) for gate in GATES}
    for gate, finding in findings.items():
        if not finding.passed:
            raise GateNotPassed(f"{gate}: {finding.why}", remedy=finding.remedy)
    note = f"{before.short} over today's data"
    record(world, target, by=by, note=note, refreshes=before.id, findings=findings)
    return target


def _made(world: World, target: Release) -> Release:
    while target.unmade:
        layer, recipe = target.unmade[0]
        maker(world.layers, layer).make(recipe, target, world.tell)
        made = as_far_as_made(world.layers, target)
        if made.unmade == target.unmade:
            raise GateNotPassed(f"{layer} {recipe.name} was made, and is not found.")
        target = made
    return target
