"""Recalling batch outputs and scoring them anew, with nothing but the world.

No Prefect here: `flows/invalidate.py` shows the same in it. How many partitions
are scored at a time, and where, is for the caller to say: `flows/spreading.py`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from ebbtide.core.errors import EbbtideError, Quarantined, Refused
from ebbtide.core.outputs import Blame, Part, PartState, Standing
from ebbtide.core.ports import World
from ebbtide.core.quarantine import denying
from tasks import outputs


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person wants invalid, and whether it is to be scored anew."""

    blame: Blame
    by: str
    reason: str = ""
    rescore: bool = False
    good: str = ""
    """The release to score with; empty: the live one."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One partition to be scored anew: plain text, so that it can go to another process."""

    output: str
    partition: str
    bad: str
    """The run whose rows were recalled."""
    good: str
    """Id of the release to score with."""
    run: str
    """The run that scores it: the same for the same recall, so that it is done once."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A consumer who was given recalled rows, or who is declared and may have read them."""

    consumer: str
    contact: str
    output: str
    partitions: tuple[str, ...]
    """Empty: declared, and never read them through ebbtide."""
    first_at: float | None = None
    last_at: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    parts: tuple[Part, ...]
    """All that is to blame, as it stands at the end."""
    new: int
    """How many of them were valid before."""
    reached: tuple[Reached, ...]
    rescored: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    """Why a partition could not be scored anew, by output and partition."""
    owed: dict[str, str] = field(default_factory=dict)
    """Why the rows of an output are not marked in its table yet, though no reader is given them."""

    @property
    def waiting(self) -> tuple[Part, ...]:
        """Recalled, and not replaced by good rows."""
        return tuple(part for part in self.parts if part.state is PartState.INVALID)


Work = Callable[[Piece], Part]
Spread = Callable[[Work, Sequence[Piece]], Iterable[tuple[Piece, str]]]
"""Carries the work out for every piece; each with why it failed, empty where it did not."""


def blame_of(release: str, model: str, since: str, until: str) -> Blame:
    """What is bad, as a person writes it. Raises `Refused`."""
    name, _, version = model.partition("=")
    ends = [moment(text) for text in (since, until)]
    return Blame(release.strip(), name.strip(), version.strip(), *ends)


def moment(text: str) -> float | None:
    """Seconds since the epoch of a date or time in ISO 8601; UTC where it names no offset."""
    if not text.strip():
        return None
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as fault:
        raise Refused(f"{text!r} is no time.", remedy="Write it as `2026-03-01T14:00Z`.") from fault
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def one_by_one(work: Work, pieces: Sequence[Piece]) -> list[tuple[Piece, str]]:
    """In this thread."""
    return [(piece, failure(work, piece)) for piece in pieces]


def failure(work: Work, piece: Piece) -> str:
    """Why the work failed; empty where it did not. The code that scores may raise anything."""
    try:
        work(piece)
    except EbbtideError as fault:
        return str(fault)
    except Exception as fault:  # noqa: BLE001 - one partition does not keep the others from it
        return f"{type(fault).__name__}: {fault}"
    return ""


def blamed(world: World, wish: Wish) -> list[Part]:
    """What a wish would make invalid now. Reads only. Raises `Unknown`, `Refused`."""
    now, blame = world.journal.now(), understood(world, wish.blame)
    return [part for part in world.journal.parts(world.system) if blame.covers(part, now)]


def invalidate(world: World, wish: Wish, spread: Spread = one_by_one) -> Outcome:
    """Recall, mark, tell who has read it, and score it anew where that is wished.

    Everything in it is idempotent: what died half way is finished by the same
    wish again. A partition that cannot be scored anew does not keep the others
    from it, and stays recalled; a table that is away keeps nothing from being
    recalled, and its mark is owed. Raises `Refused` before anything is recalled.
    """
    blame = understood(world, wish.blame)
    good = _good(world, wish, blame) if wish.rescore else ""
    system, journal = world.system, world.journal
    before = {_key(part) for part in blamed(world, wish) if part.recall}
    parts = journal.recall(system, blame, by=wish.by, reason=wish.reason)
    owed = {name: str(fault) for name, fault in outputs.mark_or_owe(world, parts).items()}
    reached = consumers(world, parts)
    there = [part for part in parts if part.output not in owed]
    done, failures = _scored(world, there, good, spread) if wish.rescore else (0, {})
    now = [journal.part(system, part.output, part.partition, part.run) for part in parts]
    return Outcome(
        parts=tuple(part for part in now if part is not None),
        new=sum(_key(part) not in before for part in parts),
        reached=tuple(reached),
        rescored=done,
        failures={**(owed if wish.rescore else {}), **failures},
        owed=owed,
    )


def understood(world: World, blame: Blame) -> Blame:
    """With the release's whole id. Raises `Unknown`."""
    if not blame.release:
        return blame
    return replace(blame, release=world.journal.release(blame.release, world.system).id)


def consumers(world: World, parts: Iterable[Part]) -> list[Reached]:
    """Who was given any of the parts, what and when; then who is declared and was not."""
    ours: dict[str, set[tuple[str, str]]] = {}
    for part in parts:
        ours.setdefault(part.output, set()).add((part.partition, part.run))
    told = world.outputs.told if world.outputs else {}
    contacts = {name: each.consumers for name, each in told.items()}
    found: dict[tuple[str, str], Reached] = {}
    for read in world.journal.reads(world.system):
        hit = {partition for partition, _ in read.parts & ours.get(read.output, set())}
        if hit:
            key = (read.output, read.consumer)
            contact = contacts.get(read.output, {}).get(read.consumer, "")
            new = Reached(
                read.consumer, contact, read.output, tuple(sorted(hit)), read.first_at, read.last_at
            )
            found[key] = _joined(found[key], new) if key in found else new
    silent = [
        Reached(consumer, contact, output, ())
        for output in ours
        for consumer, contact in contacts.get(output, {}).items()
        if (output, consumer) not in found
    ]
    return [*found.values(), *silent]


def score(world: World, piece: Piece) -> Part:
    """One piece of work. Raises what the system's own function raises."""
    part = world.journal.part(world.system, piece.output, piece.partition, piece.bad)
    if part is None:
        raise Refused(f"Output `{piece.output}`, {piece.partition}, is in the ledger no more.")
    return outputs.score_anew(world, part, piece.good, piece.run)


def _scored(
    world: World, parts: Iterable[Part], good: str, spread: Spread
) -> tuple[int, dict[str, str]]:
    """How many partitions were scored anew; why the others were not, by output and partition."""
    pieces = _pieces(world, parts, good)
    found = list(spread(lambda piece: score(world, piece), pieces))
    failures = {f"{piece.output} {piece.partition}": why for piece, why in found if why}
    return len(found) - len(failures), failures


def _good(world: World, wish: Wish, blame: Blame) -> str:
    """The release to score with. Raises `Refused`, `Quarantined` where it is bad itself."""
    route = world.journal.route(world.system)
    wanted = wish.good or (route.release if route else "")
    if not wanted:
        raise Refused(f"`{world.system}` serves no release.", remedy="Name one to score with.")
    release = world.journal.release(wanted, world.system)
    models = {pin.name: pin.at.get("version", "") for pin in release.pins("model")}
    if blame.release == release.id or (blame.model and models.get(blame.model) == blame.version):
        raise Refused(
            f"Release {release.short} is itself what is to blame.",
            remedy="Roll back first, or name a good release to score with.",
        )
    denied = denying(world.journal.quarantined(world.system), release)
    if denied:
        raise Quarantined(
            f"Release {release.short} is quarantined: {'; '.join(denied.values())}.",
            remedy="Name a good release to score with.",
        )
    return release.id


def _pieces(world: World, parts: Iterable[Part], good: str) -> list[Piece]:
    """The partitions that nothing good stands in, each once."""
    shown: dict[str, Mapping[str, Standing]] = {}
    known = {
        (part.output, part.partition, part.run)
        for part in world.journal.parts(world.system)
        if not part.recall
    }
    pieces: dict[tuple[str, str], Piece] = {}
    for part in parts:
        if part.output not in shown:
            shown[part.output] = _shown(world, part.output)
        there = shown[part.output].get(part.partition)
        run = there.run if there else ""
        # What was begun only, and never landed, left nothing that could be mended.
        bad = run == part.run or part.written_at is not None
        if part.replaced_by or not bad or (part.output, part.partition, run) in known:
            continue
        new = f"rescore-{part.recall}-{good[:12]}"
        pieces[part.output, part.partition] = Piece(
            part.output, part.partition, part.run, good, new
        )
    return list(pieces.values())


def _shown(world: World, output: str) -> Mapping[str, Standing]:
    if world.outputs is None or output not in world.outputs.told:
        return {}
    return world.outputs.standing(output)


def _joined(one: Reached, other: Reached) -> Reached:
    return replace(
        one,
        partitions=tuple(sorted({*one.partitions, *other.partitions})),
        first_at=min(one.first_at or 0.0, other.first_at or 0.0),
        last_at=max(one.last_at or 0.0, other.last_at or 0.0),
    )


def _key(part: Part) -> tuple[str, str, str]:
    return (part.output, part.partition, part.run)
