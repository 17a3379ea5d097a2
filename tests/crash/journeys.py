"""Every kind of order: together they reach each row of the step table, at every level."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ebbtide.core.saga import Level

if TYPE_CHECKING:
    from tests.crash.production import Production

SYSTEM = "ride-pricing"


@dataclass(frozen=True)
class Journey:
    """An order, where it begins and where it leads unless it is taken back."""

    name: str
    level: Level
    begins: str
    leads: str
    words: tuple[str, ...]
    moves: Mapping[str, Any] = field(default_factory=dict)
    """What tables of lineage show at its end; only level `data` moves those."""
    safe: str = ""
    """What serves meanwhile: a saga of its own leads there, before the one that leads on."""
    fresh: Callable[[], Mapping[str, str]] = dict
    """Makes what has to be new each time, which `words` name in braces."""
    makes: Callable[[], Mapping[str, Any]] | None = None
    """What the stores show of what has been made, but for the route. Else it is known before."""

    @property
    def legs(self) -> tuple[tuple[str, str], ...]:
        """The sagas that it takes, one after the other: from where to where."""
        if self.safe:
            return (self.begins, self.safe), (self.safe, self.leads)
        return ((self.begins, self.leads),)


def all_of(made: "Production") -> Iterator[Journey]:
    """There and back where both are of one kind."""
    yield Journey("system", Level.SYSTEM, "v2", "v1", _back(made, "v1"))
    yield Journey("system again", Level.SYSTEM, "v1", "v2", _back(made, "v2"))
    number = made.release("v2").pins("model")[0].at["version"]
    model = ("rollback", "model", SYSTEM, "--model", f"demand={number}")
    yield Journey("model", Level.MODEL, "twin", "v2", model)
    promotion = ("promote", SYSTEM, made.release("v3").id)
    yield Journey("promotion", Level.PROMOTION, "v1", "v3", promotion)
    taken_back = (*_back(made, "wrong"), "--accept-unproved")
    yield Journey("taken back", Level.SYSTEM, "v2", "wrong", taken_back)
    own = (*_back(made, "flags 1"), "--accept-unproved")
    yield Journey("own layer", Level.SYSTEM, "flags 2", "flags 1", own)
    yield made.grown()
    yield from _deep(made)


def _deep(made: "Production") -> Iterator[Journey]:
    """What has to be made, and what does not."""
    features = made.release("v2").pins("features")[0].at["commit"]
    found = _pipeline(made, features, safe="v3")
    yield Journey("features", Level.FEATURES, "v3", "twin", found)
    safe = _pipeline(made, features, safe="v1")
    yield Journey("safe first", Level.FEATURES, "v3", "twin", safe, safe="v1")
    yield Journey(
        "made",
        Level.FEATURES,
        "v3",
        "made",
        (*_pipeline(made, "{commit}", safe="v3"), "--accept-unproved"),
        fresh=made.workshop.another_pipeline,
        makes=made.workshop.remade,
    )
    yield Journey(
        "refresh",
        Level.REFRESH,
        "v2",
        "refreshed",
        ("refresh", SYSTEM),
        fresh=made.workshop.late_counts,
        makes=made.workshop.refreshed,
    )


def _back(made: "Production", to: str) -> tuple[str, ...]:
    return ("rollback", SYSTEM, "--to", made.release(to).id)


def _pipeline(made: "Production", commit: str, safe: str) -> tuple[str, ...]:
    asked = ("--features", f"demand={commit}")
    return ("rollback", "features", SYSTEM, *asked, "--safe", made.release(safe).id)
