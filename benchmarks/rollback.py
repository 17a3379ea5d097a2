"""Rollbacks of levels 1 and 2 in a warm process, under load.

A gateway and a client run as processes of their own; the client asks over HTTP
at 240 requests a second, and judges every response against answers that were
worked out aside (served, failed, mixed). This process orders one rollback after
the other, back and forth between two releases, through the engine with all its
gates. Moments are the journal's. Level 1 moves the model alone, level 2 every
layer: model, features, a Delta table, configuration, prompt, serving code.

Against it, under the same load: the outside effects of level 2 bare in a loop
(benchmarks/limit.py), and the runbook that a person would type
(benchmarks/runbook.py). With --prefect also as flow runs shown by a Prefect
server of its own.
"""

import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from math import ceil

import httpx

from benchmarks.common import Report, counted, finish, options, ratio, tell
from benchmarks.limit import Limit
from benchmarks.rollback_found import Found, Load, Times, report
from benchmarks.runbook import Runbook, answers, free_port
from benchmarks.system import Production, ended, gateway, production, program, until
from ebbtide.core.planner import Order
from ebbtide.core.saga import Level, Saga
from flows import shell
from flows.order import carry_out
from reference.ride_pricing.oracle import Verdict
from reference.ride_pricing.traffic import Served, Traffic

_RATE = 240.0
"""Requests a second that the client asks; at least 200 must be answered."""
_CONNECTIONS = 16
_PAUSE, _PAUSE_QUICK = 1.0, 0.3
"""Seconds between two rollbacks: each begins with the client at its pace, its cache filled."""

CarryOut = Callable[[Order], Saga]


def main(argv: Sequence[str] | None = None) -> int:
    asked = options(__doc__, argv, prefect="also as flow runs shown by a Prefect server")
    report = measure(asked.quick, counted(asked, 3, 60), prefect=asked.prefect)
    return finish(report, asked.json)


def measure(quick: bool, rounds: int, *, prefect: bool) -> Report:
    found, pause = Found(), _PAUSE_QUICK if quick else _PAUSE
    with production(with_model=True) as made, gateway(made):
        for name in ("v1", "v2", "v2-model"):
            made.promote(name)
        runbook = Runbook(made, made.folder.with_name("clone"))
        runbook.prepare()
        tell(f"level 1, {rounds} times under load")
        found.sagas["level 1"] = under_load(made, rounds, pause, ("v2", "v2-model"), Level.MODEL)
        tell(f"level 2, {rounds} times under load")
        found.sagas["level 2"] = under_load(made, rounds, pause, ("v1", "v2"), Level.SYSTEM)
        if prefect:
            tell("level 2 as flow runs, under load")
            found.sagas["level 2 with Prefect"] = as_flow_runs(made, rounds, pause)
        tell("the bare effects, under load")
        found.limit, found.effects = bare(made, rounds, pause)
        tell("the runbook")
        found.manual, found.commands = by_hand(made, runbook, 1 if quick else 5)
    return report(found, __doc__ or "", quick)


def under_load(
    made: Production,
    rounds: int,
    pause: float,
    between: tuple[str, str],
    level: Level,
    run: CarryOut | None = None,
) -> tuple[Times, Load]:
    """Back and forth between two releases, while the client asks."""
    run = run or partial(carry_out, made.world)
    if made.live() == made.releases[between[0]].id:
        between = (between[1], between[0])
    times = Times()
    with riding(made) as riders:
        for n in range(rounds + 1):
            # The first also pays for what this process imports: it is not counted.
            _one(made, between[n % 2], level, run, times if n else Times())
            made.lift_quarantine()
            time.sleep(pause)
        return times, judged(riders.stop())


def as_flow_runs(made: Production, rounds: int, pause: float) -> tuple[Times, Load]:
    """Level 2 as the command line does it while Prefect is up; raises where it went without."""
    run = partial(shell.carry_out, made.world)
    with prefect_server(made) as url:
        found = under_load(made, rounds, pause, ("v1", "v2"), Level.SYSTEM, run)
        until(lambda: _completed_runs(url) == rounds + 1, "every flow run to be recorded")
    return found


def _completed_runs(url: str) -> int:
    """How many flow runs Prefect has seen to their end; -1 while it is too busy to say."""
    asked = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    answer = httpx.post(f"{url}/flow_runs/count", json=asked, timeout=10, trust_env=False)
    return int(answer.json()) if answer.is_success else -1


@contextmanager
def riding(made: Production) -> Iterator[Traffic]:
    """The client at its pace, its first second behind it."""
    workspace, out = made.workspace, made.folder / "aside/benchmark.jsonl"
    with Traffic(
        made.url,
        questions=workspace.questions,
        expected=workspace.expected,
        out=out,
        rate=_RATE,
        connections=_CONNECTIONS,
    ) as riders:
        until(lambda: len(riders.served()) > _RATE, "the client to ask")
        yield riders


def _one(made: Production, to: str, level: Level, run: CarryOut, times: Times) -> None:
    order = Order(level, by="benchmark", to=made.releases[to].id)
    at, began = time.time(), time.perf_counter()
    saga = ended(run(order))
    times.whole.append(time.perf_counter() - began)
    if made.live() != saga.target:
        raise RuntimeError(f"{to} does not serve, though the saga says so.")
    steps = {step.name: step for step in made.world.journal.steps(saga.id)}
    switch, golden = steps["route.switch"], steps["golden.same_golden_answers"]
    times.switched.append(_moment(switch.done_at) - at)
    times.agreed.append(_moment(switch.proved_at) - at)
    times.proved.append(_moment(golden.proved_at) - at)
    times.golden.append(_moment(golden.proved_at) - golden.intent_at)
    spent = {"until the saga is open": saga.opened_at - at}
    spent |= {step.name: _moment(step.proved_at) - step.intent_at for step in steps.values()}
    spent["between the steps, and closing"] = times.whole[-1] - sum(spent.values())
    for name, seconds in spent.items():
        times.steps.setdefault(name, []).append(seconds)


def _moment(at: float | None) -> float:
    """NaN for what the journal does not have: it meets no bar."""
    return float("nan") if at is None else at


def judged(served: Sequence[Served]) -> Load:
    counts = Counter(each.verdict for each in served)
    bad = [each for each in served if each.verdict is not Verdict.SERVED]
    spent = served[-1].at - served[0].at if len(served) > 1 else 0.0
    return Load(
        requests=len(served),
        per_second=ratio(len(served), spent),
        failed=counts[Verdict.FAILED],
        mixed=counts[Verdict.MIXED],
        cached=sum(each.cache in ("hit", "ahead") for each in served),
        seconds=[each.seconds for each in served],
        why=bad[0].why if bad else "",
    )


@contextmanager
def prefect_server(made: Production) -> Iterator[str]:
    """A Prefect server of its own on SQLite, which this process's flow runs are sent to."""
    port, home = free_port(), made.folder.with_name("prefect")
    url = f"http://127.0.0.1:{port}/api"
    home.mkdir()
    told = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "NO_PROXY": "127.0.0.1",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    with program([*command, "--port", str(port)], cwd=home, log=home / "log", env=told) as server:
        until(lambda: answers(f"{url}/health"), "Prefect's server", server)
        before = dict(os.environ)
        os.environ.update(told)
        try:
            yield url
        finally:
            os.environ.clear()
            os.environ.update(before)


def bare(
    made: Production, rounds: int, pause: float
) -> tuple[list[float], Mapping[str, list[float]]]:
    """The same effects of level 2 without ebbtide. Leaves the route where it is."""
    pair = [made.releases["v1"], made.releases["v2"]]
    if made.live() != pair[0].id:
        pair.reverse()
    found, effects = [], defaultdict[str, list[float]](list)
    with riding(made), closing(Limit(made, made.folder.with_name("bare"))) as limit:
        for n in range(2 * ceil((rounds + 1) / 2)):  # back to where the route is
            began = time.perf_counter()
            limit.move(pair[n % 2], pair[1 - n % 2])
            if n:  # the first also pays for imports
                found.append(time.perf_counter() - began)
                for step, took in limit.took.items():
                    effects[step].append(took)
            time.sleep(pause)
    return found, effects


def by_hand(
    made: Production, runbook: Runbook, rounds: int
) -> tuple[list[float], Mapping[str, list[float]]]:
    """The runbook by turns to both releases, under the same load of the gateway as the sagas."""
    found, commands = [], defaultdict[str, list[float]](list)
    names = ("v1", "v2") if made.live() == made.releases["v2"].id else ("v2", "v1")
    with riding(made):
        for n in range(rounds):
            found.append(runbook.roll_back(made.releases[names[n % 2]]))
            for name, took in runbook.took.items():
                commands[name].append(took)
    return found, commands


if __name__ == "__main__":
    sys.exit(main())
