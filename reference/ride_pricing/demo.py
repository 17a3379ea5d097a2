"""The demo: published kinds of incidents, played on a real system under real traffic."""

from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ebbtide.core.errors import Unknown
from reference.ride_pricing.oracle import Verdict
from reference.ride_pricing.report import write_report
from reference.ride_pricing.stories import bad_features, bad_model, bad_release, poisoned_data
from reference.ride_pricing.stories.stage import Stage, staged, under_traffic
from reference.ride_pricing.story import Story
from reference.ride_pricing.traffic import Traffic
from reference.ride_pricing.workspace import SYSTEM

INCIDENTS: Mapping[str, Callable[[Stage, Traffic], Story]] = {
    "bad-model": bad_model.tell,
    "bad-release": bad_release.tell,
    "bad-features": bad_features.tell,
    "poisoned-data": poisoned_data.tell,
}
"""From shallow to deep: each is undone by another level."""
DEFAULT = "bad-release"


def play(folder: Path, incident: str = "") -> int:
    """Play an incident in a new workspace below `folder`; 0 where it ended as it should.

    Raises `Unknown` for an incident that there is not.
    """
    name = incident or DEFAULT
    if name not in INCIDENTS:
        raise Unknown(
            f"There is no incident `{name}`.", remedy=f"There are {', '.join(INCIDENTS)}."
        )
    say = Console()
    say.print(f"[bold]ebbtide demo[/]: ride pricing, {name.replace('-', ' ')}, and the way back")
    with staged(folder.resolve(), say) as stage, under_traffic(stage) as riders:
        story = INCIDENTS[name](stage, riders)
    picture, page = write_report(story, folder / "report")
    _summary(say, story)
    say.print(f"\nThe picture: {picture}\nThe report:  {page}", soft_wrap=True)
    say.print(f"The workspace is kept: cd {folder} && ebbtide history {SYSTEM}", soft_wrap=True)
    return 0 if _as_it_should(story) else 1


def _summary(say: Console, story: Story) -> None:
    drawn = Table(title="What the rollback changed", title_justify="left")
    for column in ("layer", "what", "from (bad)", "to (good)"):
        drawn.add_column(column)
    for thing in story.changes:
        after = thing.after if thing.changed else "[dim]as it was[/]"
        drawn.add_row(thing.layer, thing.name, thing.before, after)
    say.print()
    say.print(drawn)
    error = {each.name: story.price_error(each.release) for each in story.shipped}
    shown = ", ".join(f"{name} {found:.1%}" for name, found in error.items() if found is not None)
    say.print(f"Median price error by release, as riders saw it: {shown}")
    for what, value in (*_counted(story), *story.facts.items()):
        say.print(f"{what}: {value}", highlight=False)


def _counted(story: Story) -> list[tuple[str, str]]:
    """Requests by the riders' own count."""
    found = ", ".join(f"{verdict} {count}" for verdict, count in story.counts.items())
    told = [("Requests by the riders' own count", found)]
    if story.while_made:
        each = ", ".join(f"{name} {count}" for name, count in story.while_made.items())
        told.append(("Answered while the target was made", each))
    bad = f"{story.bad_afterwards} requests"
    return [*told, ("Answered by the bad release once it was left", bad)]


def _as_it_should(story: Story) -> bool:
    counts = story.counts
    whole = counts[Verdict.FAILED] == 0 and counts[Verdict.MIXED] == 0
    return counts[Verdict.SERVED] > 0 and whole and story.bad_afterwards == 0
