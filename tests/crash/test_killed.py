"""Law 2 on real stores: a process killed by SIGKILL, anywhere, and what a fresh one makes of it.

A sample of the points; `make crash` goes through all of them.
"""

from collections.abc import Iterator

from ebbtide.core.saga import ROLLBACKS, Level
from flows.levels import STEPS
from tests import stores
from tests.crash.journeys import SYSTEM, Journey
from tests.crash.killing import Case, Tally, kill
from tests.crash.production import Production

_CUT_OVER = (
    "route.switch/do/effect-done",
    "tables.move/restored",
    "files.replace_link/made",
    "models.move/tagged",
    "prompts.move/tagged",
    "golden.same_golden_answers/do/before-intent",
)
"""Where most can go wrong: in the middle of effects, and at the end of all of them."""


def test_a_system_ends_at_the_source_or_the_target(production: Production) -> None:
    here = production.journeys
    there, back = here["system"], here["system again"]
    production.begin(there)
    points = production.points(production.order, there)
    production.settled(there)
    assert set(_CUT_OVER) < set(points) and len(points) > 150
    sample = [*points[5::60], *_CUT_OVER[:5], "own.proof_gates_pass/do/proved"]
    tally = Tally()
    for n, point in enumerate(sample):
        journey = there if production.live == there.begins else back
        case = Case(journey, point, f"#{3 + 8 * (n // 2)}" if n % 2 else "")
        tally.add(case, kill(production, case))
    assert not tally.wrong, tally.table()
    assert {"taken back", "completed"} <= {state for _, state in tally.ended}, tally.table()


def test_who_dies_while_all_is_taken_back_is_taken_back(production: Production) -> None:
    journey = production.journeys["taken back"]
    production.begin(journey)
    points = production.points(production.order, journey)
    assert production.settled(journey) == ("taken back", {})
    undoing = [point for point in points if "/undo/" in point or "give_back" in point]
    assert len(undoing) > 30
    _none_wrong(production, [Case(journey, point) for point in undoing[1::18]])


def test_recoveries_may_die_too_until_a_person_is_asked(production: Production) -> None:
    journey = production.journeys["system again"]
    production.begin(journey)
    deepest = production.order(journey, EBBTIDE_CRASH_AT=_CUT_OVER[-1]).ended()
    assert deepest.killed
    for at in ("#2", "#12", "#25", "#40"):
        production.expire()
        assert production.recover(EBBTIDE_CRASH_AT=at).killed
    production.expire()
    halted = production.recover()
    assert halted.code == 8 and "take back writers.hold" in halted.out
    by_hand = production.command("recover", SYSTEM, "--saga", production.newest()).ended()
    assert by_hand.code == 0, by_hand.out
    assert production.settled(journey) == ("taken back", {})


def test_every_level_does(production: Production) -> None:
    here = production.journeys
    cases = [
        Case(here["model"], "models.move/tagged", "#6"),
        Case(here["promotion"], "settings.publish_infra/do/intent-written"),
        Case(here["features"], "features.repoint_link/do/effect-done"),
        Case(here["data"], "tables.move/restored", "#20"),
        Case(here["data"], "own.proof_gates_pass/do/proved"),
    ]
    _none_wrong(production, cases)


def test_what_is_made_may_die_at_any_time_and_is_made_once(production: Production) -> None:
    """Killed once the model is registered and nothing says so yet; then ordered again."""
    journey, root = production.journeys["made"], production.system.root
    _none_wrong(production, [Case(journey, "training.make/registered")], end="taken back")
    registered = stores.registered(root, "ride-demand")
    production.begin_again(journey)
    ended = production.order(journey).ended()
    assert ended.code == 0, ended.out
    assert production.settled(journey) == ("completed", {})
    assert stores.registered(root, "ride-demand") == registered, "it is taken up, not made again"


def test_a_refresh_dies_while_its_pipeline_runs(production: Production) -> None:
    journey = production.journeys["refresh"]
    case = Case(journey, "pipeline.run/stage-begun#2")
    _none_wrong(production, [case], end="taken back")


def test_who_dies_on_the_way_to_safety_or_after_it_ends_at_a_release(
    production: Production,
) -> None:
    journey = production.journeys["safe first"]
    points = ("effects.settle/do/intent-written", "saga/opened#2")
    _none_wrong(production, [Case(journey, point) for point in points])
    _none_wrong(
        production, [Case(production.journeys["own layer"], "others.follow/do/effect-done")]
    )


def test_every_row_of_the_table_and_every_level_is_in_a_journey(production: Production) -> None:
    """Else nobody dies there: a row that is new needs an order that reaches it."""
    assert {journey.level for journey in production.journeys.values()} == {*Level}
    missing, first = {row.name for row in STEPS}, ("made", "own layer", "data")
    for name in sorted(production.journeys, key=lambda name: name not in first):
        journey = production.journeys[name]
        if missing and journey.level in ROLLBACKS:
            production.begin(journey)
            missing -= production.planned(journey)
    assert not missing, "no journey reaches these rows"


def test_a_journal_in_postgresql_keeps_the_law_too(on_postgresql: Production) -> None:
    here = on_postgresql.journeys
    _none_wrong(on_postgresql, list(_on_postgresql(here["system"], here["taken back"])))


def _on_postgresql(system: Journey, failing: Journey) -> Iterator[Case]:
    yield Case(system, "journal/uncommitted#30", "#4")
    yield Case(system, "models.move/tagged", "#11")
    yield Case(failing, "data.restore_tables/undo/intent-written", "#3")
    yield Case(system, "own.proof_gates_pass/do/proved", "#5")


def _none_wrong(made: Production, cases: list[Case], end: str = "") -> None:
    tally = Tally()
    for case in cases:
        tally.add(case, kill(made, case))
    assert not tally.wrong, tally.table()
    assert not end or {state for _, state in tally.ended} == {end}, tally.table()
