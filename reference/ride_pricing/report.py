"""The report: one HTML page that needs nothing else, with the picture inside."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from reference.ride_pricing.oracle import Verdict
from reference.ride_pricing.picture import draw
from reference.ride_pricing.story import Compared, Course, Story, TimedStep

STYLE = (Path(__file__).parent / "report.css").read_text()
NEVER = "-"


def write_report(story: Story, folder: Path) -> tuple[Path, Path]:
    """Write `incident.png` and `incident.html` into a folder; both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    picture, page = folder / "incident.png", folder / "incident.html"
    draw(story, picture)
    page.write_text(_page(story, picture.read_bytes()), encoding="utf-8")
    return picture, page


def _page(story: Story, picture: bytes) -> str:
    image = base64.b64encode(picture).decode()
    sections = (
        _headline(story),
        f'<figure><img alt="Price error over time" src="data:image/png;base64,{image}"></figure>',
        _making(story),
        _compared(story),
        _left(story),
        _changes(story),
        *(_steps(course) for course in story.courses),
        _shipped(story),
        _facts(story),
    )
    title = escape(f"{story.system}: {story.title}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main><h1>{title}</h1>\n{_lead(story)}"
        f"{''.join(sections)}</main></body></html>\n"
    )


def _lead(story: Story) -> str:
    return f"<p>{escape(story.lead)}</p>" if story.lead else ""


def _headline(story: Story) -> str:
    counts = story.counts
    took = story.rolled_back.at - story.detected.at
    bad = story.rolled_back.at - story.deployed.at
    back = "a safe" if story.arrived else "the good"
    cards = [
        _card(f"{took:.1f} s", f"from detection to the last replica serving {back} release"),
        _card(f"{bad:.1f} s", "in which the bad release served"),
        *_made_in(story),
        _card(f"{counts[Verdict.SERVED]:,}", "requests served"),
        *(
            _card(f"{counts[verdict]:,}", f"requests {verdict}", alarm=counts[verdict] > 0)
            for verdict in (Verdict.FAILED, Verdict.MIXED)
        ),
    ]
    return f'<div class="cards">{"".join(cards)}</div>'


def _made_in(story: Story) -> list[str]:
    if story.arrived is None:
        return []
    took = story.arrived.at - story.rolled_back.at
    return [_card(f"{took:.1f} s", "more until the target served; the safe release did meanwhile")]


def _card(figure: str, what: str, *, alarm: bool = False) -> str:
    kind = "card alarm" if alarm else "card"
    return f'<div class="{kind}"><b>{escape(figure)}</b><span>{escape(what)}</span></div>'


def _making(story: Story) -> str:
    """Who answered while the target was made, by the riders' own count."""
    bad = {each.name for each in story.shipped if each.bad}
    rows = [
        (
            f"<b>{escape(name)}</b>" + (' <span class="bad">bad</span>' if name in bad else ""),
            f"{count:,}",
        )
        for name, count in story.while_made.items()
    ]
    title = "Who answered while the target was made, by the riders' own count"
    return _section(title, ("release", "requests"), rows)


def _left(story: Story) -> str:
    if not story.left:
        return ""
    lines = "".join(f"<p>{escape(line)}</p>" for line in story.left)
    return f"<h2>Rows that were left behind</h2>{lines}"


def _compared(story: Story) -> str:
    if not story.compared:
        return ""
    largest = max(each.price_error for each in story.compared)
    rows = [_compared_row(each, largest) for each in story.compared]
    refusal = (
        f'<p class="refusal"><b>Refused before anything was touched:</b> '
        f"{escape(story.refusal)}</p>"
        if story.refusal
        else ""
    )
    head = ("", "demand against the truth", "median price error", "")
    return f"<h2>{escape(story.compared_title)}</h2>{refusal}" + _table(head, rows)


def _compared_row(each: Compared, largest: float) -> tuple[str, ...]:
    width = 100 * each.price_error / largest if largest else 0
    bar = (
        f'<div class="bar"><i style="width:{width:.1f}%"></i><em>{each.price_error:.0%}</em></div>'
    )
    return escape(each.name), f"{each.demand_excess:+.0%}", bar, escape(each.note)


def _changes(story: Story) -> str:
    rows = [
        (
            escape(each.layer),
            escape(each.name),
            f"<code>{escape(each.before)}</code>",
            f"<code>{escape(each.after)}</code>" if each.changed else "unchanged",
        )
        for each in story.changes
    ]
    return _section("What the rollback changed", ("layer", "", "from", "to"), rows)


def _steps(course: Course) -> str:
    longest = max((each.seconds for each in course.steps), default=0.0)
    rows = [_step_row(each, longest) for each in course.steps]
    return _section(course.title, ("phase", "step", "", "took", "proof"), rows)


def _step_row(each: TimedStep, longest: float) -> tuple[str, ...]:
    width = 100 * each.seconds / longest if longest else 0
    label = f"{1000 * each.seconds:,.0f} ms"
    return (
        escape(each.phase),
        f"<code>{escape(each.name)}</code>",
        escape(each.does),
        f'<div class="bar"><i style="width:{width:.1f}%"></i><em>{label}</em></div>',
        escape(each.verdict),
    )


def _shipped(story: Story) -> str:
    rows = [
        (
            f"<b>{escape(each.name)}</b>" + (' <span class="bad">bad</span>' if each.bad else ""),
            f"<code>{escape(each.release[:12])}</code>",
            escape(each.what),
            _share(story.price_error(each.release)),
        )
        for each in story.shipped
    ]
    head = ("release", "id", "what it was", "median price error while it served")
    return _section("The releases", head, rows)


def _facts(story: Story) -> str:
    latency = [(f"p{share}", story.latency(share / 100)) for share in (50, 95, 99)]
    shown = [f"{name} {1000 * value:.0f} ms" for name, value in latency if value is not None]
    facts = {
        "Latency as the client saw it": ", ".join(shown) or NEVER,
        "Answered by the bad release once it was left": f"{story.bad_afterwards} requests",
        **story.facts,
    }
    rows = [(escape(name), escape(value)) for name, value in facts.items()]
    return _section("Further figures", ("", ""), rows)


def _share(value: float | None) -> str:
    return NEVER if value is None else f"{value:.1%}"


def _section(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return f"<h2>{escape(title)}</h2>{_table(head, rows)}" if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells come escaped."""
    named = "".join(f"<th>{escape(name)}</th>" for name in head)
    top = f"<thead><tr>{named}</tr></thead>" if any(head) else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{top}<tbody>{body}</tbody></table></div>'
