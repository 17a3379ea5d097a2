"""A warm release is asked aside, and through the port that the gates use."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from ebbtide.adapters.replicas.serving import HttpServing
from ebbtide.core.errors import EbbtideError, NotRestorable, Unreachable
from ebbtide.core.journal import Replica
from tests.integration.gateway_fixtures import (  # noqa: F401 - fixtures
    Running,
    gateway,
    marked,
    says,
    until,
)
from tests.integration.serving_world import MLFLOW_WARNS, SYSTEM, Marked, marks

# ruff: noqa: F811 - pytest's way to ask for a fixture

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNS)


@pytest.fixture
def serving(marked: Marked) -> Iterator[HttpServing]:
    with closing(HttpServing(marked.journal, SYSTEM, 5.0)) as found:
        yield found


def test_a_warm_release_answers_aside(marked: Marked, gateway: Running) -> None:
    old, new, cold = (marked.release(mark) for mark in ("old", "new", "cold"))
    marked.switch(old)
    gateway.serves(marked.switch(new))
    gateway.holds(old.id, new.id)
    aside = gateway.client.ask(1, release=old.id)
    assert (says(aside), aside.headers["x-ebbtide-release"]) == ("old", old.id)
    assert aside.headers["x-ebbtide-cache"] == "off"
    refused = gateway.client.ask(1, release=cold.id)
    assert (refused.status_code, refused.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
    assert f"ebbtide_requests_total {old.id}" not in gateway.client.figures()
    assert gateway.client.ask(1).headers["x-ebbtide-cache"] == "miss"


def test_the_port_asks_live_and_aside(
    marked: Marked, gateway: Running, serving: HttpServing
) -> None:
    old, new = marked.release("old"), marked.release("new")
    marked.switch(old)
    gateway.serves(marked.switch(new))
    gateway.holds(old.id, new.id)
    (replica,) = serving.replicas()
    live = serving.ask(replica, [{"x": 1}, {"x": 2}])
    assert (live.release, live.epoch, len(live.predictions)) == (new.id, 2, 2)
    aside = serving.ask(replica, [{"x": 1}], old.id)
    assert (aside.release, marks(aside.predictions[0])) == (old.id, {"old"})
    assert gateway.client.figures()[f"ebbtide_cache_requests_total miss {new.id}"] == 0


def test_the_port_says_what_is_wrong(
    marked: Marked, gateway: Running, serving: HttpServing
) -> None:
    bad = "def load(parts):\n    return lambda rows: [float('nan')] * len(rows)\n"
    (replica,) = until(serving.replicas, "has reported")
    with pytest.raises(Unreachable, match="serves nothing"):
        serving.ask(replica, [{"x": 1}])
    gateway.serves(marked.switch(marked.release("bad", bad)))
    with pytest.raises(EbbtideError, match="500"):
        serving.ask(replica, [{"x": 1}])
    with pytest.raises(NotRestorable, match="not warm"):
        serving.ask(replica, [{"x": 1}], "f" * 64)
    gone = Replica("gone", "http://127.0.0.1:9", "", 0, (), {}, 0.0)
    with pytest.raises(Unreachable, match="gone"):
        serving.ask(gone, [{"x": 1}])
