"""The journal, the route, the cache and the log may be away from a gateway."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest

from ebbtide.adapters.cache import RedisCache
from ebbtide.core.errors import Unreachable
from ebbtide.core.journal import Journal
from tests.integration.gateway_fixtures import (  # noqa: F401 - fixtures
    Running,
    gateway,
    marked,
    running,
    says,
    until,
)
from tests.integration.serving_world import LOG, MLFLOW_WARNS, SYSTEM, Marked
from tests.integration.test_cache import OwnRedis, own_redis

# ruff: noqa: F811 - pytest's way to ask for a fixture

__all__ = ["own_redis"]


pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNS)


class Flaky:
    """A journal that can be taken away."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.away = False

    def __getattr__(self, name: str) -> Any:
        if self.away:
            raise Unreachable("The journal is away.")
        return getattr(self._journal, name)


def test_with_the_journal_away_it_goes_on_with_what_it_has(marked: Marked) -> None:
    journal = Flaky(marked.journal)
    world = replace(marked.world, journal=cast(Journal, journal))
    good, other = marked.release("good"), marked.release("other")
    with running(marked, world=world) as gateway:
        gateway.serves(marked.switch(good))
        journal.away = True
        epoch = marked.switch(other)
        assert [says(gateway.client.ask(x)) for x in range(5)] == ["good"] * 5
        journal.away = False
        gateway.serves(epoch)
        assert says(gateway.client.ask()) == "other"


def test_without_a_route_it_is_not_healthy_until_there_is_one(
    marked: Marked, gateway: Running
) -> None:
    client = gateway.client
    until(lambda: "no route" in client.http.get("/ping").text, "says why")
    assert client.http.get("/health").status_code == client.ask().status_code == 503
    assert client.ask().json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    gateway.serves(marked.switch(marked.release("v1")))
    for path in ("/ping", "/health"):
        assert (client.http.get(path).status_code, client.http.get(path).text) == (200, "\n")


def test_a_cleared_route_serves_nothing_and_says_so(marked: Marked, gateway: Running) -> None:
    gateway.serves(marked.switch(marked.release("v1")))
    with marked.saga() as lease:
        marked.journal.return_route(lease, expected=1, to="", token="cleared")
        gateway.serves(2)
        report = gateway.report()
        assert report is not None and report.release == ""
        assert gateway.client.ask().status_code == 503


@pytest.fixture
def redis_cache(own_redis: OwnRedis) -> Iterator[RedisCache]:
    """Its connections end with the test, and not whenever garbage is looked for."""
    cache = RedisCache(own_redis.url, SYSTEM, 600.0)
    yield cache
    cache._opened.close()


@pytest.mark.parametrize("away", ["dead", "hanging"])
def test_a_cache_that_goes_away_fails_and_slows_no_request(
    marked: Marked, own_redis: OwnRedis, redis_cache: RedisCache, away: str
) -> None:
    world = replace(marked.world, cache=redis_cache)
    with running(marked, world=world) as gateway:
        gateway.serves(marked.switch(marked.release("v1")))
        assert [gateway.client.ask(1).headers["x-ebbtide-cache"] for _ in range(2)] == [
            "miss",
            "hit",
        ]
        own_redis.kill() if away == "dead" else own_redis.hang()
        seconds = []
        for _ in range(100):
            began = time.monotonic()
            assert says(gateway.client.ask(1)) == "v1"
            seconds.append(time.monotonic() - began)
        assert max(seconds) < 1.0
        assert sum(second > 0.15 for second in seconds) <= 5
        assert gateway.client.figures()["ebbtide_cache_failures_total"] >= 1
        own_redis.kill()
        own_redis.start()
        until(
            lambda: gateway.client.ask(1).headers["x-ebbtide-cache"] == "hit", "the cache is back"
        )


def test_served_predictions_are_logged_with_their_release(marked: Marked) -> None:
    from deltalake import DeltaTable

    release = marked.release("v1")
    table = str(marked.folder / LOG)
    with running(marked, log=table) as gateway:
        gateway.serves(marked.switch(release))
        for x in (1, 1, 2):
            gateway.client.ask(x)
        gateway.client.ask(3, release=release.id)
        gateway.client.http.post("/invocations", content=b"not a request")
    rows = DeltaTable(table).to_pandas().sort_values("at").to_dict(orient="records")
    assert [row["request"] for row in rows] == [
        f'{{"dataframe_records":[{{"x":{x}}}]}}' for x in (1, 1, 2)
    ]
    assert [row["cached"] for row in rows] == [False, True, False]
    assert {(row["release"], row["epoch"], row["replica"]) for row in rows} == {
        (release.id, 1, "here")
    }
    assert all('"model":"v1"' in row["prediction"] and row["latency_ms"] > 0 for row in rows)
    assert abs(rows[0]["at"].timestamp() - time.time()) < 60


def test_a_log_that_cannot_be_written_fails_no_request(marked: Marked) -> None:
    (marked.folder / LOG).write_text("no table")
    with running(marked, log=str(marked.folder / LOG)) as gateway:
        gateway.serves(marked.switch(marked.release("v1")))
        assert [says(gateway.client.ask(x)) for x in range(5)] == ["v1"] * 5
