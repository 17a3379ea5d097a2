"""`python -m tests.crash`: every point of every level, each a real death, and a table of the ends.

Each point twice: killed there, and killed there with its recovery killed as well. All of
it takes hours; `--part 1/10` to `--part 10/10` are together the same.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from tests.crash.journeys import Journey
from tests.crash.killing import Case, Tally, kill
from tests.crash.production import Production, produced
from tests.ride_pricing import built_once

_DEEPEST = ("golden.same_golden_answers/do/before-intent", "own.proof_gates_pass/do/proved")
"""Where most has to be taken back or finished: there a recovery dies at each of its points."""


def main() -> int:
    options = _options()
    tally, began = Tally(), monotonic()
    with tempfile.TemporaryDirectory(prefix="ebbtide-crash-") as folder:
        built = built_once(Path(folder) / "shared").copy(Path(folder) / "workspace")
        with produced(built, Path(folder), options.journal) as made:
            for case in _cases(made, options.journey, options.part):
                outcome = kill(made, case)
                tally.add(case, outcome)
                print(f"{monotonic() - began:6.0f} s  {case}: {outcome.state}", flush=True)
                for name, lines in outcome.wrong.items():
                    print("\n".join(f"          {name} BROKEN: {line}" for line in lines))
    print(f"\n{tally.table()}")
    return 1 if tally.wrong else 0


def _cases(made: Production, only: list[str], part: slice) -> Iterator[Case]:
    for name, journey in made.journeys.items():
        if only and name not in only:
            continue
        made.begin(journey)
        points = made.points(made.order, journey)
        made.settled(journey)
        for n, point in [*enumerate(points)][part]:
            yield Case(journey, point)
            yield Case(journey, point, f"#{1 + (n * 7) % 60}")
        deepest = [point for point in points if point in _DEEPEST]
        yield from _recoveries(made, journey, deepest, part)


def _recoveries(
    made: Production, journey: Journey, deepest: list[str], part: slice
) -> Iterator[Case]:
    """A recovery that dies at its first point, at its second, and so on to its last."""
    for point in deepest:
        made.begin(journey)
        assert made.order(journey, EBBTIDE_CRASH_AT=point).ended().killed
        made.expire()
        passed = made.points(made.recover)
        made.settled(journey)
        yield from (Case(journey, point, again) for again in passed[part])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--journal", default="", help="URL of an empty PostgreSQL database")
    parser.add_argument("--journey", action="append", default=[], help="only this one")
    parser.add_argument(
        "--part", type=_part, default=slice(None), help="a part of it, such as 3/10"
    )
    return parser.parse_args()


def _part(text: str) -> slice:
    """`3/10`: the third of every ten points, so that each part has some of each kind."""
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit() and 1 <= int(number) <= int(of)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part such as 3/10")
    return slice(int(number) - 1, None, int(of))


if __name__ == "__main__":
    sys.exit(main())
