"""Rollbacks as they are started and shown in Prefect: a real server, a real worker.

The system is small (one configuration in git, no replicas) and real; what is
live is read from its link, not through ebbtide.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ebbtide import outputs
from ebbtide.bootstrap import open_world
from ebbtide.core.journal import Journal, Replica
from ebbtide.core.planner import Order
from ebbtide.core.recording import record, resolve
from ebbtide.core.saga import Level, SagaState
from flows.order import carry_out, plan
from tests.integration.journal_fixtures import database_of_its_own
from tests.integration.outputs_fixtures import (  # noqa: F401 - fixtures
    QUOTES,
    Filed,
    filed,
    with_file,
)
from tests.integration.prefect_server import (
    Prefect,
    busy_at_first,
    prefect_with_everything_deployed,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

pytestmark = [pytest.mark.timeout(300), pytest.mark.prefect]

SYSTEM_FILE = """
system: {name}
root: ../{name}
layers:
  config:
    pricing: {{path: config, link: live/config}}
serving: {{replicas: {replicas}, warm_within: 5, switch_within: {switch_within}}}
proved_after: 0
"""


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("systems") / "files"


@pytest.fixture(scope="module")
def prefect(systems: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """On PostgreSQL where there is one: on SQLite, its server may lock itself up for a minute."""
    folder = tmp_path_factory.mktemp("prefect")
    with database_of_its_own() as url:
        database = url.replace("postgresql", "postgresql+asyncpg", 1) if url else ""
        with prefect_with_everything_deployed(folder, systems, database) as prefect:
            yield prefect


class Small:
    """A system with two releases, cap 1 and cap 2; the second one is live."""

    def __init__(self, name: str, systems: Path) -> None:
        self.name, self.systems, self.root = name, systems, systems.parent / name
        self.root.mkdir()
        self.describe(replicas=0)
        self.git("init", "-q")
        self.releases = [self.commit(cap).id for cap in (1, 2)]

    def describe(self, *, replicas: int, switch_within: float = 0.3) -> None:
        self.systems.mkdir(exist_ok=True)
        text = SYSTEM_FILE.format(name=self.name, replicas=replicas, switch_within=switch_within)
        (self.systems / f"{self.name}.yaml").write_text(text)

    def git(self, *arguments: str) -> None:
        who = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
        subprocess.run(["git", "-C", str(self.root), *who, *arguments], check=True)

    def write(self, cap: int) -> None:
        (self.root / "config").mkdir(exist_ok=True)
        (self.root / "config/pricing.yaml").write_text(f"cap: {cap}\n")
        self.git("add", "config")
        self.git("commit", "-qm", f"cap {cap}")

    def commit(self, cap: int) -> Any:
        """Commit, record and promote."""
        self.write(cap)
        world = open_world(self.name, self.systems)
        release = resolve(world, {})
        record(world, release, by="tester")
        order = Order(level=Level.PROMOTION, by="tester", to=release.id)
        assert carry_out(world, order).state is SagaState.COMPLETED
        return release

    def live(self) -> str:
        return (self.root / "live/config/pricing.yaml").read_text().strip()


@pytest.fixture
def small(request: pytest.FixtureRequest, systems: Path) -> Small:
    return Small(request.node.name.replace("_", "-")[5:40].strip("-"), systems)


def test_a_rollback_started_in_the_ui_shows_every_row_of_the_plan_and_its_end(
    prefect: Prefect, small: Small
) -> None:
    rows = plan(open_world(small.name, small.systems), Order(level=Level.SYSTEM, by="t")).plan.steps
    expected = [name for row in rows for name in _labels(row.name, acts=bool(row.does))]

    run = prefect.start(
        "rollback-system", system=small.name, ordered_by="tester", reason="prices surge"
    )
    ended = prefect.end(run)

    assert ended["state_name"] == "RolledBack", ended["state"]["message"]
    assert ended["name"] == f"rollback {small.name} to {small.releases[0][:12]}"
    shown = prefect.task_runs(run, ending_with=expected[-1])
    assert [task["name"] for task in shown] == expected
    assert {task["state_name"] for task in shown} == {"Completed", "Passed"}
    assert small.live() == "cap: 1"
    (artifact,) = prefect.post("/artifacts/filter", _of(run))
    assert f"rollback {small.name} to {small.releases[0][:12]}: completed" in artifact["data"]
    assert "prices surge" in artifact["data"]


def test_a_gate_that_fails_is_shown_with_its_verdict_and_so_is_every_take_back(
    prefect: Prefect, small: Small
) -> None:
    small.describe(replicas=1)
    with _a_replica_that_never_switches(small):
        run = prefect.start("rollback-system", system=small.name, ordered_by="tester")
        ended = prefect.end(run)

    assert ended["state_name"] == "TakenBack", ended["state"]["message"]
    assert ended["state_type"] == "FAILED"
    shown = prefect.task_runs(run, ending_with="take back route.warm_target")
    verdicts = {task["name"]: task["state_name"] for task in shown}
    assert verdicts["prove route.switch"] == "Failed"
    assert [task["name"] for task in shown][-4:] == [
        "prove route.switch",
        "take back route.switch",
        "take back cache.leave_epoch",
        "take back route.warm_target",
    ]
    assert all(verdicts[name] == "TakenBack" for name in verdicts if name.startswith("take"))
    assert small.live() == "cap: 2"


def test_a_rollback_that_is_cancelled_takes_back_what_it_did(
    prefect: Prefect, small: Small
) -> None:
    small.describe(replicas=1, switch_within=8)
    journal = open_world(small.name, small.systems).journal
    with _a_replica_that_never_switches(small):
        run = prefect.start("rollback-system", system=small.name, ordered_by="tester")
        # The route has moved, and the gate waits for the replica.
        prefect.until(lambda: _began(journal, small.name, "route.switch"), "the route is switched")
        prefect.cancel(run)
        ended = prefect.end(run)

    assert ended["state_type"] == "CANCELLED"
    assert journal.sagas(small.name)[0].state is SagaState.TAKEN_BACK
    route = journal.route(small.name)
    assert route and route.release == small.releases[1]
    assert small.live() == "cap: 2"


def test_a_rollback_that_cannot_be_is_refused_with_the_reason(
    prefect: Prefect, small: Small
) -> None:
    run = prefect.start("rollback-model", system=small.name, ordered_by="tester", to="0123456789")
    ended = prefect.end(run)

    assert ended["state_name"] == "Refused"
    assert "0123456789" in ended["state"]["message"]
    assert small.live() == "cap: 2"


def test_a_release_is_recorded_and_promoted_from_prefect(prefect: Prefect, small: Small) -> None:
    small.write(cap=3)
    recorded = prefect.end(prefect.start("release", system=small.name, recorded_by="tester"))
    assert recorded["state_name"] == "Recorded", recorded["state"]["message"]
    short = recorded["state"]["message"].split()[1]

    run = prefect.start("promote", system=small.name, release=short, ordered_by="tester")
    ended = prefect.end(run)

    assert ended["state_name"] == "Promoted", ended["state"]["message"]
    assert small.live() == "cap: 3"


def test_outputs_are_invalidated_on_a_local_dask_cluster(prefect: Prefect, filed: Filed) -> None:
    """On threads, the very same flow is tried without a server, in `test_invalidate`."""
    with_file(filed, workers={"kind": "dask", "count": 2})
    for n in range(6):
        filed.write(f"d{n}", "nightly", filed.bad)
    asked = {"release": filed.bad.short, "rescore": True, "systems": str(filed.folder)}

    run = prefect.start("invalidate", system="shop", ordered_by="tester", **asked)
    ended = prefect.end(run)

    assert ended["state_name"] == "Invalidated", ended["state"]["message"]
    assert "6 of them newly; 6 scored anew, 0 waiting" in ended["state"]["message"]
    standing = {name: files[0] for name, files in filed.table().items()}
    assert {valid for _, valid, _ in standing.values()} == {True}
    assert {run.split("-")[0] for run, _, _ in standing.values()} == {"rescore"}
    rows = outputs.read(open_world("shop", filed.folder), QUOTES, consumer="tester").read_all()
    addresses = {row["worker"] for row in rows.to_pylist()}
    assert all(addresses)
    again = prefect.end(prefect.start("invalidate", system="shop", ordered_by="tester", **asked))
    assert "0 of them newly; 0 scored anew" in again["state"]["message"]


def test_a_schedule_makes_runs_appear(prefect: Prefect) -> None:
    """With a SQLAlchemy that Prefect does not work with, schedules silently never fire."""
    deployment = prefect.get("/deployments/name/release/release")["id"]
    schedule = {
        "schedule": {"interval": 3600},
        "active": True,
        "parameters": {"system": "any", "recorded_by": "schedule"},
    }
    prefect.post(f"/deployments/{deployment}/schedules", [schedule])

    def look() -> Any:
        asked = {"deployments": {"id": {"any_": [deployment]}}}
        runs = prefect.post("/flow_runs/filter", asked)
        return [run for run in runs if run["auto_scheduled"]] or None

    assert prefect.until(look, "a scheduled run appears")


FROM_A_COMMAND_LINE = """
import json, os, signal, sys
from pathlib import Path
from ebbtide.bootstrap import open_world
from ebbtide.core.events import StepProved
from ebbtide.core.planner import Order
from ebbtide.core.saga import Level
from flows.shell import carry_out, prefect_is_up

name, systems, server, kill_after = sys.argv[1:]
seen = []

def observe(event):
    seen.append(type(event).__name__)
    if isinstance(event, StepProved) and event.name == kill_after:
        os.kill(int(server), signal.SIGKILL)

was_up = prefect_is_up()
saga = carry_out(
    open_world(name, Path(systems)), Order(level=Level.SYSTEM, by="tester"), observer=observe
)
print(json.dumps({"was_up": was_up, "state": saga.state, "saw": seen.count("StepProved")}))
"""


def _from_a_command_line(
    prefect: Prefect, small: Small, kill_after: str = "", url: str = ""
) -> dict[str, Any]:
    arguments = [small.name, str(small.systems), str(prefect.server.pid), kill_after]
    ended = subprocess.run(
        [sys.executable, "-c", FROM_A_COMMAND_LINE, *arguments],
        env=prefect.environment | ({"PREFECT_API_URL": url} if url else {}),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_a_command_line_is_shown_as_a_flow_run_too(prefect: Prefect, small: Small) -> None:
    told = _from_a_command_line(prefect, small)

    assert told["state"] == "completed"
    runs = prefect.post("/flow_runs/filter", {"flow_runs": {"name": {"like_": small.name}}})
    assert [(run["state_name"], run["deployment_id"]) for run in runs] == [("RolledBack", None)]
    assert small.live() == "cap: 1"


def test_a_server_that_is_busy_for_a_moment_is_asked_again(prefect: Prefect, small: Small) -> None:
    with busy_at_first(prefect.url, times=2) as url:
        told = _from_a_command_line(prefect, small, url=url)

    assert told["state"] == "completed"
    runs = prefect.post("/flow_runs/filter", {"flow_runs": {"name": {"like_": small.name}}})
    assert [run["state_name"] for run in runs] == ["RolledBack"]


def test_a_saga_goes_on_though_the_server_dies_in_its_middle(
    prefect: Prefect, small: Small
) -> None:
    """The last test of this file: it leaves no server."""
    told = _from_a_command_line(prefect, small, kill_after="cache.leave_epoch")

    assert prefect.server.wait(60) != 0
    assert told["was_up"]
    assert told["state"] == "completed"
    assert small.live() == "cap: 1"


def test_without_a_server_a_command_line_goes_without_it(prefect: Prefect, small: Small) -> None:
    prefect.server.kill()
    prefect.server.wait(60)

    told = _from_a_command_line(prefect, small)

    assert not told["was_up"]
    assert told["state"] == "completed"
    assert small.live() == "cap: 1"


def _began(journal: Journal, system: str, step: str) -> bool | None:
    saga = journal.sagas(system)[0]
    names = [record.name for record in journal.steps(saga.id) if record.done_at]
    return (saga.level is Level.SYSTEM and step in names) or None


def _labels(name: str, *, acts: bool) -> list[str]:
    return [name, f"prove {name}"] if acts else [f"prove {name}"]


def _of(flow_run: str) -> dict[str, Any]:
    return {"artifacts": {"flow_run_id": {"any_": [flow_run]}}}


@contextmanager
def _a_replica_that_never_switches(small: Small) -> Iterator[None]:
    """It holds every release warm, says so, and goes on serving the one it has."""
    journal = open_world(small.name, small.systems).journal
    stuck = Replica(
        name="stuck",
        url="http://127.0.0.1:9",
        release=small.releases[1],
        epoch=2,
        loaded=tuple(small.releases),
        refused={},
        age=0.0,
    )
    stop = threading.Event()

    def report() -> None:
        while not stop.wait(0.5):
            journal.report(small.name, stuck)

    journal.report(small.name, stuck)
    thread = threading.Thread(target=report)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
