"""Recalling batch outputs as a person or a schedule starts it in Prefect.

What it does is in `flows/recalls.py`; here partitions are spread over a task
runner: threads of this process, or a Dask cluster where the system file says so.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from prefect import State, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from ebbtide.adapters.system.file import WorkersPart, find_system
from ebbtide.core.errors import BadConfiguration, Refused
from flows import recalls
from flows.recalls import Outcome, Piece, Wish, Work
from flows.spreading import local_cluster, scored
from flows.systems import folder_of, open_named


@flow(name="invalidate", flow_run_name="invalidate outputs of {system}", retries=0)
async def invalidate_outputs(
    system: str,
    ordered_by: str,
    release: str = "",
    model: str = "",
    since: str = "",
    until: str = "",
    rescore: bool = False,
    good: str = "",
    reason: str = "",
    systems: str = "",
) -> State[Any]:
    """Make bad batch outputs invalid, tell who has read them, and score them anew.

    Say what is bad in one of three ways: a release, a model, or a time.

    Args:
        system: The system, as its system file is named, such as `shop-search`.
        ordered_by: Who orders this; it goes into the audit trail.
        release: All that this release wrote: its id or the first 6 digits and more.
        model: All that this version of a model scored: `name=version`, such as `ranker=7`.
        since: All that was written from this time on, such as `2026-03-01T14:00Z`.
        until: The end of that time; it must be over.
        rescore: Score the recalled partitions anew.
        good: The release to score with. Empty: the live one.
        reason: Why; it goes into the audit trail.
        systems: The folder of the system files. Empty: EBBTIDE_SYSTEMS, else configs/systems.
    """
    folder = folder_of(systems).absolute()

    def work() -> Outcome:
        world = open_named(system, str(folder))
        workers = find_system(system.strip(), folder).workers
        blame = recalls.blame_of(release, model, since, until)
        wish = Wish(blame, ordered_by, reason, rescore, good.strip())
        if not rescore:
            return recalls.invalidate(world, wish)
        return recalls.invalidate(world, wish, _over(runner(workers), world.system, str(folder)))

    try:
        return _end(await asyncio.to_thread(work))
    except Refused as fault:
        return Failed(name="Refused", message=str(fault))


def runner(workers: WorkersPart) -> TaskRunner[Any]:
    """The task runner that the system file asks for. Raises `BadConfiguration`."""
    if workers.kind == "threads":
        return ThreadPoolTaskRunner(max_workers=workers.count)
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as fault:
        raise BadConfiguration(
            f"`workers.kind: dask` needs prefect-dask: {fault}", remedy="Install `ebbtide[dask]`."
        ) from fault
    at = workers.address
    how = {"address": at} if at else {"cluster_kwargs": local_cluster(workers)}
    found: TaskRunner[Any] = DaskTaskRunner(**how)
    return found


@task(name="outputs.score_anew", retries=0, cache_policy=NO_CACHE, persist_result=False)
def score_named(system: str, systems: str, piece: Piece) -> Any:
    """Score one partition anew, in whatever process this runs."""
    why = scored(system, systems, piece)
    return Failed(message=why) if why else Completed(message=f"run {piece.run}")


def _over(tasks: TaskRunner[Any], system: str, systems: str) -> recalls.Spread:
    def spread(_work: Work, pieces: Sequence[Piece]) -> list[tuple[Piece, str]]:
        if not pieces:
            return []
        with tasks.duplicate() as running:
            futures = [
                running.submit(
                    score_named.with_options(task_run_name=f"{each.output} {each.partition}"),
                    {"system": system, "systems": systems, "piece": each},
                )
                for each in pieces
            ]
            for future in futures:
                future.wait()
            ends = [future.state for future in futures]
        return [
            (piece, "" if end.is_completed() else end.message or end.name)
            for piece, end in zip(pieces, ends, strict=True)
        ]

    return spread


def _end(outcome: Outcome) -> State[Any]:
    whole = (
        f"{len(outcome.parts)} parts are invalid, {outcome.new} of them newly; "
        f"{outcome.rescored} scored anew, {len(outcome.waiting)} waiting."
    )
    told = [
        whole,
        *(
            f"{each.consumer} ({each.contact or 'no contact'}) read {len(each.partitions)} "
            f"partitions of {each.output}"
            for each in outcome.reached
        ),
        *(f"{place}: {why}" for place, why in outcome.failures.items()),
        *(f"Not marked yet: {output}: {why}" for output, why in outcome.owed.items()),
    ]
    if outcome.failures:
        return Failed(name="NotAllScored", message="\n".join(told))
    return Completed(name="Invalidated", message="\n".join(told))
