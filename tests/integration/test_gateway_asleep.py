"""A replica that was not running while the route moved answers nothing of the old epoch."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ebbtide.core.ports import World
from ebbtide.entrypoints.gateway import server
from ebbtide.entrypoints.gateway.rehearsal import Rehearsal
from ebbtide.entrypoints.gateway.replica import ServingReplica
from tests.integration.gateway_fixtures import Running, running
from tests.integration.serving_world import MLFLOW_WARNS, Marked

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNS)


@pytest.fixture
def replicas(monkeypatch: pytest.MonkeyPatch) -> list[ServingReplica]:
    """Every replica that a gateway makes of itself."""
    made: list[ServingReplica] = []

    class Seen(ServingReplica):
        def __init__(self, world: World, handler: str, name: str, rehearsal: Rehearsal) -> None:
            super().__init__(world, handler, name, rehearsal)
            made.append(self)

    monkeypatch.setattr(server, "ServingReplica", Seen)
    return made


@pytest.fixture
def gateway(tmp_path: Path, replicas: list[ServingReplica]) -> Iterator[tuple[Marked, Running]]:
    with closing(Marked(tmp_path)) as marked, running(marked) as found:
        yield marked, found


def _fall_asleep(replica: ServingReplica) -> None:
    """As after SIGSTOP and SIGCONT: the route was not looked at for longer than a heartbeat."""
    replica._closing.set()
    replica._thread.join(30)
    replica._looked_at = time.monotonic() - 60


def test_who_overslept_looks_at_the_route_before_it_answers(
    gateway: tuple[Marked, Running], replicas: list[ServingReplica]
) -> None:
    marked, found = gateway
    old, new = marked.release("old"), marked.release("new")
    found.serves(marked.switch(old))
    with marked.saga() as lease:
        marked.journal.set_candidate(lease, new.id, only_from=("",))
        found.holds(old.id, new.id)
        _fall_asleep(replicas[0])
        epoch = marked.switch(new, lease)
    answer = found.client.ask(1)
    assert answer.headers["x-ebbtide-epoch"] == str(epoch)
    assert answer.headers["x-ebbtide-release"] == new.id


def test_where_the_journal_is_away_it_goes_on_serving(
    gateway: tuple[Marked, Running],
    replicas: list[ServingReplica],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marked, found = gateway
    release = marked.release("only")
    found.serves(marked.switch(release))
    _fall_asleep(replicas[0])

    def away(_system: str) -> None:
        raise OSError("the journal is away")

    monkeypatch.setattr(marked.journal, "route", away)
    assert found.client.ask(1).status_code == 200
