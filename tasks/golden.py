"""The golden set: how the target behaved when it was recorded."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ebbtide.core.errors import GateNotPassed
from ebbtide.core.gates import Finding, inconclusive, passed, worst
from ebbtide.core.golden import same_answers
from ebbtide.core.journal import Replica
from ebbtide.core.ports import Answer, World
from ebbtide.core.release import Golden
from ebbtide.core.saga import Move
from ebbtide.core.step import aside
from tasks.route import too_few

_AT_ONCE = 16
"""Replicas that are asked at the same time."""
_NONE = "the system file names no golden set"


@aside
def record_snapshot(world: World, move: Move, _was: None) -> None:
    """Ask a target that was composed, and so has no snapshot yet, the golden set aside."""
    if not world.questions or world.journal.golden(move.target.id):
        return
    replicas = world.serving.replicas()
    if replicas:
        answer = world.serving.ask(replicas[0], world.questions, release=move.target.id)
        if answer.release != move.target.id:
            raise GateNotPassed(f"{replicas[0].name} answered as {answer.release[:12]}.")
        answers = answer.predictions
    else:
        answers = world.scorer.answers(move.target, world.questions)
    world.journal.add_golden(move.target.id, Golden(world.questions, answers), move.by)


def snapshot_is_there(world: World, move: Move) -> Finding:
    """The target's answers to the golden set are recorded."""
    if not world.questions:
        return passed(_NONE)
    golden = world.journal.golden(move.target.id)
    if golden is None or len(golden.answers) != len(golden.questions) or not golden.answers:
        return inconclusive(f"No golden answers of {move.target.short} are recorded.")
    return passed(f"{len(golden.answers)} answers are recorded")


def same_golden_answers(world: World, move: Move) -> Finding:
    """Each replica answers the golden set as recorded, by its real serving path."""
    golden = world.journal.golden(move.target.id)
    if golden is None:
        return passed(_NONE) if not world.questions else inconclusive("No answers are recorded.")
    return _each_replica(world, move, golden.questions, golden.answers)


def answers_smoke_requests(world: World, move: Move) -> Finding:
    """Each replica answers the smoke requests, as the target."""
    if not world.smoke:
        return passed("the system file names no smoke requests")
    return _each_replica(world, move, world.smoke, None)


def _asked(world: World, replicas: list[Replica], rows: tuple[object, ...]) -> list[Answer]:
    """What each replica answers, all asked at once. Raises what the first of them raises."""
    ask = partial(world.serving.ask, rows=rows)
    if len(replicas) == 1:
        return [ask(replicas[0])]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(ask, replicas))


def _each_replica(
    world: World,
    move: Move,
    rows: tuple[object, ...],
    expected: tuple[object, ...] | None,
) -> Finding:
    replicas = world.serving.replicas()
    if not replicas and world.policy.replicas == 0:
        return passed("this system has no replicas")
    missing = too_few(world, replicas)
    if missing:
        return missing
    found = []
    for replica, answer in zip(replicas, _asked(world, replicas, rows), strict=True):
        if answer.release != move.target.id:
            found.append(inconclusive(f"{replica.name} answered as {answer.release[:12]}."))
        elif expected is None:
            enough = len(answer.predictions) == len(rows)
            note = f"{replica.name} gave {len(answer.predictions)} answers to {len(rows)} rows"
            found.append(passed(note) if enough else inconclusive(note))
        else:
            found.append(same_answers(expected, answer.predictions, world.policy.tolerance))
    return worst(found)
