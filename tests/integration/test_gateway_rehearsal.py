"""What comes again and again is asked of the releases that wait: a switch begins with answers."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ebbtide.core.release import Release
from ebbtide.entrypoints.gateway import rehearsal
from ebbtide.entrypoints.gateway.recurring import Recurring
from ebbtide.entrypoints.gateway.rehearsal import Rehearsal
from tests.integration.gateway_fixtures import Running, only, running, until
from tests.integration.serving_world import MLFLOW_WARNS, Marked

pytestmark = pytest.mark.filterwarnings(MLFLOW_WARNS)

CODE = """
import time
from pathlib import Path


def load(parts):
    calls = Path(CALLS)

    def answer(rows):
        asked = rows["x"].to_list()
        with calls.open("a") as file:
            file.writelines("MARK %s\\n" % x for x in asked)
        if "MARK" == "refuses":
            raise ValueError("no such x")
        while "MARK" == "hangs" and not (calls.parent / "go-on").exists():
            time.sleep(0.005)
        return [dict(mark="MARK", x=x) for x in asked]

    return answer
"""


@pytest.fixture(autouse=True)
def rehearsals(monkeypatch: pytest.MonkeyPatch) -> list[Rehearsal]:
    """Every one that a gateway makes. A release that is set aside is asked soon."""
    made: list[Rehearsal] = []

    class Seen(Rehearsal):
        def __init__(self, recurring: Recurring, *, together: bool, ttl: float) -> None:
            super().__init__(recurring, together=together, ttl=ttl)
            made.append(self)

    monkeypatch.setattr(rehearsal, "Rehearsal", Seen)
    monkeypatch.setattr(rehearsal, "_LATER", 0.0)
    return made


def _knows(rehearsals: list[Rehearsal], release: Release, *, answers: int) -> None:
    """Wait until a release that is held warm has been asked so much."""
    until(lambda: len(rehearsals[-1].answers(release.id)) == answers, "what came again is asked")


class Shop:
    """A gateway, what its releases were asked, and releases by their mark."""

    def __init__(self, folder: Path, marked: Marked, gateway: Running) -> None:
        self.marked, self.gateway, self._calls = marked, gateway, folder / "calls"
        self._go_on = folder / "go-on"

    def release(self, mark: str) -> Release:
        code = CODE.replace("CALLS", repr(str(self._calls))).replace("MARK", mark)
        return self.marked.release(mark, code)

    def switch(self, release: Release) -> None:
        self.gateway.serves(self.marked.switch(release))

    def asked(self, mark: str) -> list[float]:
        """Which questions a release was asked, past the cache."""
        told = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [float(line.split()[1]) for line in told if line.startswith(f"{mark} ")]

    def ask(self, x: float) -> tuple[str, str]:
        """The mark of the answer, and where it came from."""
        response = self.gateway.client.ask(x)
        assert only(response)["x"] == x
        return only(response)["mark"], response.headers["x-ebbtide-cache"]

    def ask_again_and_again(self, *xs: float) -> None:
        for x in xs:
            assert [self.ask(x)[1] for _ in range(2)] == ["miss", "hit"]

    def go_on(self) -> None:
        self._go_on.touch()


@contextmanager
def opened(folder: Path, *, joint: bool, ttl: float = 600.0) -> Iterator[Shop]:
    with closing(Marked(folder)) as marked, running(marked, joint=joint, ttl=ttl) as gateway:
        shop = Shop(folder, marked, gateway)
        try:
            yield shop
        finally:
            shop.go_on()


@pytest.fixture(params=[False, True], ids=["one by one", "together"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with opened(tmp_path, joint=request.param) as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Shop]:
    with opened(tmp_path, joint=False) as made:
        yield made


def test_who_takes_over_knows_what_came_again_and_made_it_itself(
    shop: Shop, rehearsals: list[Rehearsal]
) -> None:
    before, after = shop.release("before"), shop.release("after")
    shop.switch(before)
    shop.switch(after)
    shop.ask_again_and_again(1.0, 2.0)
    assert shop.ask(3.0) == ("after", "miss")
    _knows(rehearsals, before, answers=2)
    assert sorted(shop.asked("before")) == [1.0, 2.0], "and nothing else"
    shop.switch(before)
    assert [shop.ask(x) for x in (1.0, 2.0, 3.0)] == [
        ("before", "ahead"),
        ("before", "ahead"),
        ("before", "miss"),
    ]
    assert sorted(shop.asked("before")) == [1.0, 2.0, 3.0], "asked once each"


def test_nothing_of_an_epoch_that_has_ended_is_shown_again(shop: Shop) -> None:
    """Also not where the same release served in it: what it answers now is what counts."""
    before, after = shop.release("before"), shop.release("after")
    shop.switch(before)
    shop.ask_again_and_again(1.0)
    served = list(shop.asked("before"))
    shop.switch(after)
    shop.ask_again_and_again(1.0)
    until(lambda: len(shop.asked("before")) > len(served), "it is asked anew")


def test_a_release_that_was_just_loaded_is_reported_once_it_knows_its_answers(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "_WITHIN", 30.0)  # as long as a busy machine takes
    shop.switch(shop.release("before"))
    shop.ask_again_and_again(*(float(n) for n in range(20)))
    new = shop.release("new")
    with shop.marked.saga() as lease:
        shop.marked.journal.set_candidate(lease, new.id, only_from=[""])
        until(lambda: (told := shop.gateway.report()) and new.id in told.loaded, "it is warm")
        assert len(shop.asked("new")) == 20
        shop.gateway.serves(shop.marked.switch(new, lease))
    assert shop.ask(7.0) == ("new", "ahead")


def test_one_that_hangs_is_not_waited_for(alone: Shop) -> None:
    alone.switch(alone.release("before"))
    alone.ask_again_and_again(1.0)
    new = alone.release("hangs")
    with alone.marked.saga() as lease:
        alone.marked.journal.set_candidate(lease, new.id, only_from=[""])
        until(lambda: alone.asked("hangs"), "it is asked")
        until(
            lambda: (told := alone.gateway.report()) and new.id in told.loaded, "it is warm", 10.0
        )
        assert alone.ask(1.0) == ("before", "hit")


def test_what_a_release_refuses_is_refused_to_the_client_too(shop: Shop) -> None:
    refuses, after = shop.release("refuses"), shop.release("after")
    shop.switch(refuses)
    shop.switch(after)
    shop.ask_again_and_again(1.0)
    until(lambda: shop.asked("refuses"), "it is asked")
    shop.switch(refuses)
    answer = shop.gateway.client.ask(1.0)
    assert answer.status_code == 400 and "x-ebbtide-release" in answer.headers


def test_an_answer_that_was_made_long_ago_is_made_again(tmp_path: Path) -> None:
    with opened(tmp_path, joint=False, ttl=0.4) as shop:
        before, after = shop.release("before"), shop.release("after")
        shop.switch(before)
        shop.switch(after)
        shop.ask_again_and_again(1.0)
        until(lambda: len(shop.asked("before")) > 1, "it is asked again before it is too old")
        shop.switch(before)
        time.sleep(0.4)
        assert shop.ask(1.0) == ("before", "miss")


def test_with_the_cache_gone_what_was_made_ahead_still_serves(
    alone: Shop, monkeypatch: pytest.MonkeyPatch, rehearsals: list[Rehearsal]
) -> None:
    before, after = alone.release("before"), alone.release("after")
    alone.switch(before)
    alone.switch(after)
    alone.ask_again_and_again(1.0)
    _knows(rehearsals, before, answers=1)

    def away(*_: object) -> bytes | None:
        raise OSError("no such cache")

    for what in ("get", "put", "epoch"):
        monkeypatch.setattr(alone.marked.cache, what, away)
    alone.switch(before)
    assert [alone.ask(1.0) for _ in range(2)] == [("before", "ahead")] * 2
