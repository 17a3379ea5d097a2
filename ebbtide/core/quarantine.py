"""What is denied, to which releases that matters, and how a person allows it again."""

from collections.abc import Mapping
from re import fullmatch

from ebbtide.core.errors import Refused, Unknown
from ebbtide.core.ports import World
from ebbtide.core.release import Release


def denying(denied: Mapping[str, str], release: Release) -> dict[str, str]:
    """Of what is denied, the release itself and what it pins: why, by digest."""
    pins = (pin.digest for pins in release.layers.values() for pin in pins)
    return {content: denied[content] for content in (release.id, *pins) if content in denied}


def remedy(world: World, release: Release) -> str:
    """What can be done where a target is denied. One that was never recorded has no name yet."""
    found = denying(world.journal.quarantined(world.system), release)
    names = [release.id] if release.id in found else list(found)
    commands = "; ".join(
        f"ebbtide lift-quarantine {world.system} {name[:12]} --reason TEXT" for name in names
    )
    return f"Choose another release; or where that reason holds no longer: {commands}."


def named(world: World, what: str) -> dict[str, str]:
    """What a person means, with why it is denied, by digest. Raises `Unknown`.

    A release, by id or prefix: itself and all that it pins, so that it can be a
    target again. Else one denied content, by its digest or a prefix of it.
    """
    denied = world.journal.quarantined(world.system)
    try:
        release = world.journal.release(what, world.system)
    except Unknown:
        return _content(world.system, denied, what)
    found = denying(denied, release)
    if not found:
        raise Unknown(
            f"{release.short} is not quarantined, nor is anything that it pins.",
            remedy=f"`ebbtide status {world.system}` lists what is.",
        )
    return found


def lift(world: World, contents: Mapping[str, str], *, by: str, reason: str) -> Mapping[str, str]:
    """Let contents be targets again; what was lifted. The reason goes into the audit trail."""
    if not reason.strip():
        raise Refused(
            "A quarantine is lifted for a reason; none was given.", remedy="Say --reason TEXT."
        )
    return world.journal.lift_quarantine(world.system, contents, by=by, reason=reason)


def _content(system: str, denied: Mapping[str, str], what: str) -> dict[str, str]:
    wanted = what.strip().lower()
    prefix = wanted if fullmatch(r"[0-9a-f]{6,64}", wanted) else "no digest"
    found = {digest: why for digest, why in denied.items() if digest.startswith(prefix)}
    if len(found) == 1:
        return found
    several = ", ".join(digest[: len(wanted) + 6] for digest in found)
    raise Unknown(
        f"`{what}` begins more than one quarantined content: {several}."
        if found
        else f"Nothing that is quarantined in {system} is called `{what}`.",
        remedy=f"`ebbtide status {system}` lists what is, by digest; 6 digits are enough.",
    )
