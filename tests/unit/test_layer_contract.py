"""The harness for layer adapters passes the fakes, and finds every broken promise."""

from collections.abc import Collection

import pytest

from ebbtide.core.errors import Conflict, Unknown
from ebbtide.core.release import Pin
from ebbtide.core.saga import BUILT_IN
from ebbtide.testing import FakeLayer, layer_contract


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_fakes_keep_the_contract(name: str) -> None:
    layer = FakeLayer(name)
    layer.meddle("main", layer.pin("main", "7"))
    layer_contract(layer, "main")
    assert layer.live("main") == layer.pin("main", "7")


class PinsLatest(FakeLayer):
    def pin(self, name: str, ask: str = "") -> Pin:
        return super().pin(name, "2" if ask == "latest" else ask)


class KnowsNoLatest(FakeLayer):
    def pin(self, name: str, ask: str = "") -> Pin:
        if ask == "latest":
            raise Unknown
        return super().pin(name, ask)


class PinsAnew(FakeLayer):
    count = 0

    def pin(self, name: str, ask: str = "") -> Pin:
        self.count += 1
        pin = super().pin(name, ask)
        return Pin(name, pin.digest, {"count": str(self.count)})


class PinsNumbers(FakeLayer):
    def pin(self, name: str, ask: str = "") -> Pin:
        return Pin(name, super().pin(name, ask).digest, {"key": ("a", "b")})  # type: ignore[dict-item]  # the very fault


class HasProblems(FakeLayer):
    def problems(self, pin: Pin) -> list[str]:
        return [] if pin.digest not in self.prepared else ["odd"]


class PreparesOnce(FakeLayer):
    def prepare(self, pin: Pin) -> None:
        if pin.digest in self.prepared:
            raise AssertionError("prepared before")
        super().prepare(pin)


class PreparesLive(FakeLayer):
    def prepare(self, pin: Pin) -> None:
        super().prepare(pin)
        self.meddle(pin.name, pin)


class MovesFromAnything(FakeLayer):
    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        super().move(name, to, only_from=(self.live(name),), note=note)


class MovesOnlyOnce(FakeLayer):
    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        if self.live(name) == to:
            raise Conflict("there already")
        super().move(name, to, only_from=only_from, note=note)


class MovesNothing(FakeLayer):
    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        pass


class KeepsShowing(FakeLayer):
    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        if to is not None:
            super().move(name, to, only_from=only_from, note=note)


class TakesAwayFromAnything(FakeLayer):
    def move(
        self, name: str, to: Pin | None, *, only_from: Collection[Pin | None], note: str
    ) -> None:
        if to is None:
            self.meddle(name, None)
        else:
            super().move(name, to, only_from=only_from, note=note)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (PinsLatest, "can lead elsewhere tomorrow"),
        (KnowsNoLatest, "must raise FloatingReference"),
        (PinsAnew, "was pinned as"),
        (PinsNumbers, "does not come back from the journal"),
        (HasProblems, "has problems"),
        (PreparesOnce, "prepared before"),
        (PreparesLive, "changed what is live"),
        (MovesFromAnything, "what somebody else did would be lost"),
        (MovesNothing, "it shows"),
        (KeepsShowing, "taken away"),
        (TakesAwayFromAnything, "taken away only from"),
    ],
)
def test_a_broken_promise_is_found(broken: type[FakeLayer], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        layer_contract(broken("own"), "main")


def test_a_move_that_cannot_be_repeated_is_found() -> None:
    with pytest.raises(Conflict, match="there already"):
        layer_contract(MovesOnlyOnce("own"), "main")


def test_versions_that_are_the_same_prove_nothing() -> None:
    with pytest.raises(AssertionError, match="same content"):
        layer_contract(FakeLayer("own"), "main", ("1", "1"))
