"""`python -m tests.property.soak`: thousands of seeded sagas, and a table of where they ended.

A seed is one run: a system of its own, and a dozen things that happen to it.
`--seed N` replays one.
"""

import argparse
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from time import monotonic

from ebbtide.core.saga import Level, SagaState
from ebbtide.testing.invariants import LAWS
from tests.memory import folder_in_memory
from tests.property.tally import Broken, Tally
from tests.property.trials import Pick, Trials

CHANCES: Sequence[tuple[int, Callable[[Trials, Pick], None]]] = (
    (4, Trials.order),
    (6, Trials.order_and_die),
    (2, Trials.order_badly),
    (3, Trials.order_into_an_outage),
    (2, Trials.order_among_meddlers),
    (2, Trials.order_against_a_rival),
    (2, Trials.sleep_past_the_lease),
    (1, Trials.order_twice),
    (8, Trials.recover),
    (6, Trials.recover_and_die),
    (4, Trials.finish_by_hand),
    (1, Trials.take_away),
    (3, Trials.give_back),
    (1, Trials.meddle),
    (2, Trials.lift),
    (1, Trials.skew),
)
"""How often each thing happens, in parts."""
STATES = tuple(state for state in SagaState if state is not SagaState.OPEN)


def main() -> int:
    options = _options()
    logging.disable(logging.CRITICAL)  # an outage is warned of each time
    tally, broken, began = Tally(), Counter[str](), monotonic()
    seed = first = options.first if options.seed is None else options.seed
    while seed == first or (options.seed is None and tally.ended.total() < options.sagas):
        for name in run(seed, options.trials, tally, show=options.seed is not None):
            broken[name] += 1
        seed += 1
        if seed % 50 == 0:
            print(
                f"{monotonic() - began:6.0f} s  seed {seed}: {tally.ended.total()} sagas",
                flush=True,
            )
    print(f"\nseeds {first} to {seed - 1}, {options.trials} trials each")
    print(table(tally, broken, seed - first))
    return 1 if broken else 0


def run(seed: int, trials: int, tally: Tally, *, show: bool = False) -> list[str]:
    """One run. The names of what does not hold; it ends at the first."""
    random = Random(seed)
    weights, things = zip(*CHANCES, strict=True)
    with tempfile.TemporaryDirectory(prefix="ebbtide-soak-", dir=folder_in_memory()) as folder:
        system = Trials(Path(folder), tally)
        try:
            for thing in random.choices(things, weights, k=trials):
                thing(system, random.choice)
            system.settle()
        except Broken as fault:
            print(f"seed {seed} BROKEN: {fault}", flush=True)
            return list(fault.found)
        finally:
            system.close()
            if show:
                print("\n".join(system.log))
    return []


def table(tally: Tally, broken: Counter[str], runs: int) -> str:
    """Where the sagas ended, and law by law what the number of them allows to say."""
    sagas = tally.ended.total()
    rows = [f"{'level':<12}" + "".join(f"{state:>13}" for state in STATES)]
    for level in (*Level, None):
        counts = [_count(tally, level, state) for state in STATES]
        if any(counts):
            rows.append(f"{level or 'all':<12}" + "".join(f"{count or '':>13}" for count in counts))
    never = ", ".join(f"{count} {name}" for name, count in tally.refused.most_common())
    rows += ["", f"{sagas} sagas in {runs} runs; never begun: {never or 'none'}"]
    rows.append(f"{tally.deaths} deaths, {tally.zombies} sleepers, {tally.rivals} rivals")
    laws = {**LAWS, **{name: "the reference model" for name in broken if name not in LAWS}}
    for name, law in laws.items():
        told = f"BROKEN in {broken[name]} runs" if broken[name] else _bound(sagas)
        rows.append(f"{name:<6} {law:<76} {told}")
    return "\n".join(rows)


def _count(tally: Tally, level: Level | None, state: SagaState) -> int:
    return sum(
        number for (of, end), number in tally.ended.items() if end == state and level in (None, of)
    )


def _bound(sagas: int) -> str:
    """Exact binomial: 0 of n broken leaves at most 1 - 0.05 ** (1 / n), with 95 % confidence."""
    return f"0 of {sagas}: fails in {1 - 0.05 ** (1 / sagas):.3%} or less" if sagas else ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.property.soak", description=__doc__)
    parser.add_argument("--sagas", type=int, default=3000, help="at least so many")
    parser.add_argument("--trials", type=int, default=12, help="for each seed")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one, told line by line")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
