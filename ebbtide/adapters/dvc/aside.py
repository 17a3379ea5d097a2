"""Running stages of a DVC pipeline at an earlier commit, in a checkout of its own.

Stages are other people's programs. What they leave running is ended, and what
they write where they should not is found as far as it can be: in their declared
outputs, in the files of the user's checkout that git tracks, and in its copies of
the pipeline's outputs. A file that they write anywhere else goes unseen.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from ebbtide.adapters.dvc.checkout import Checkout, checked_out
from ebbtide.adapters.dvc.outside import Untouched, bring_given, refuse_stray, run_outputs
from ebbtide.adapters.dvc.parameters import recorded_otherwise, set_parameters
from ebbtide.adapters.git.repository import Repository
from ebbtide.adapters.process.guarded import Ended, run_guarded
from ebbtide.core.crashpoints import reach
from ebbtide.core.errors import GateNotPassed, Refused

WITHIN = 6 * 3600.0
"""Seconds that a run may take where nobody says otherwise."""
_FULL = ("No space left on device", "Errno 28", "Disk quota exceeded")
_OURS = ("GIT_", "DVC_", "EBBTIDE_", "MLFLOW_RUN_ID")
_ADVICE = (
    "To track the changes with git",
    "git add ",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
)
"""What DVC says for somebody who works in the checkout: here nobody does."""
_BEGINS = "Running stage "
"""What DVC says of a stage that it does not take from its cache."""
_KEPT = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR")


@contextmanager
def reproduced(
    repository: Repository,
    commit: str,
    *,
    stages: Sequence[str],
    params: Mapping[str, Mapping[str, Any]],
    environment: Mapping[str, str],
    state: Path,
    tell: Callable[[str], None],
    within: float = WITHIN,
    first: Sequence[str] = (),
    look: Callable[[Path], None] = lambda _folder: None,
    again: bool = False,
) -> Iterator[Path]:
    """The repository's folder at a commit, with `stages` and all that they need reproduced.

    The folder lies below `<state>/aside` and is gone afterwards; paths of outputs in it are
    relative to it as they are to `repository.folder`. `stages` are addressed as for
    `dvc repro` (`train`, `sub/dvc.yaml:train`). `params`: by params file, by dotted key, the
    value to run with. `environment` is added to this process's own; without a PATH in it,
    `python` is the one that runs here. `within`: seconds. What DVC has computed before is
    taken from its cache. `first`: stages that are reproduced before; then `look` is given the
    folder, and where it raises, `stages` do not run; else they run on just what it has seen.
    `again`: they run also where DVC has computed the same before. Raises `Refused` before
    anything runs, `GateNotPassed` where a stage fails, hangs, fills the disk or writes where
    it should not.
    """
    _refuse_options(stages, first)
    ends = monotonic() + within
    with checked_out(repository, commit, state) as checkout:
        set_parameters(checkout.folder, params, commit)
        dvc = _Dvc(checkout, environment, state, tell, within, ends)
        with _held_to(repository, checkout, stages, params):
            if first:
                dvc.reproduce(*first)
                look(checkout.folder)
            alone = ["--single-item"] if first else []
            dvc.reproduce(*alone, *(["--force"] if again else []), *stages)
        yield checkout.folder


@contextmanager
def _held_to(
    repository: Repository,
    checkout: Checkout,
    stages: Sequence[str],
    params: Mapping[str, Mapping[str, Any]],
) -> Iterator[None]:
    """The stages write their outputs and nothing else, and run with what they were told."""
    outputs = run_outputs(checkout, stages)
    refuse_stray(checkout, outputs)
    untouched = Untouched.of(repository, checkout, outputs)
    bring_given(checkout, outputs)
    yield
    untouched.check()
    refuse_stray(checkout, outputs, error=GateNotPassed)
    _refuse_others(checkout, outputs.locks, params)


@dataclass(frozen=True, slots=True)
class _Dvc:
    """DVC in a checkout of its own, for so many seconds in all."""

    checkout: Checkout
    environment: Mapping[str, str]
    state: Path
    tell: Callable[[str], None]
    within: float
    ends: float
    """When they are over, by the monotonic clock."""

    def reproduce(self, *words: str) -> None:
        """Raises `GateNotPassed` where a stage fails, hangs or fills the disk."""
        ended = run_guarded(
            [sys.executable, "-m", "dvc", "repro", *words],
            cwd=self.checkout.folder,
            env={**_surroundings(), **self.environment},
            within=max(0.0, self.ends - monotonic()),
            tell=_shortened(self.tell),
            keep=(self.checkout.mark,),
        )
        _check(ended, self.within, self.state, self.checkout)


def _shortened(tell: Callable[[str], None]) -> Callable[[str], None]:
    def pass_on(line: str) -> None:
        if line.startswith(_BEGINS):
            reach("pipeline.run/stage-begun")
        if not line.strip().startswith(_ADVICE):
            tell(line)

    return pass_on


def _refuse_options(stages: Sequence[str], first: Sequence[str]) -> None:
    odd = [stage for stage in (*first, *stages) if stage.startswith("-")]
    if odd or not stages:
        raise Refused(f"`{' '.join(odd)}` is no stage.", remedy="Name a stage of the pipeline.")


def _surroundings() -> dict[str, str]:
    """This process's own, without what belongs to a surrounding git, DVC or MLflow run."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or not name.startswith(_OURS)
    }
    here = str(Path(sys.executable).parent)
    return {
        **kept,
        "PATH": os.pathsep.join(filter(None, [here, kept.get("PATH", "")])),
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
    }


def _check(ended: Ended, within: float, state: Path, checkout: Checkout) -> None:
    last = "\n".join(ended.last)
    if not ended.in_time:
        raise GateNotPassed(
            f"The pipeline did not end within {within:g} s and was ended; it said last:\n{last}",
            remedy="Find out why it hangs, or give it more time: `within` in the system file.",
        )
    if ended.code and any(words in last for words in _FULL):
        raise GateNotPassed(
            f"The disk is full: the pipeline needs room in {state} and in DVC's cache "
            f"{checkout.cache}. It said last:\n{last}",
            remedy="Free space, then order it again: what was computed is not lost.",
        )
    if ended.code:
        raise GateNotPassed(
            f"The pipeline failed (exit {ended.code}); it said last:\n{last}",
            remedy="Correct it in a new commit, or choose another commit.",
        )


def _refuse_others(
    checkout: Checkout, locks: Mapping[str, Sequence[str]], params: Mapping[str, Mapping[str, Any]]
) -> None:
    """Whatever let DVC take another value, features of other data must not pass for these."""
    faults = recorded_otherwise(checkout.folder, locks, params)
    if faults:
        raise GateNotPassed(
            f"The pipeline did not run with what it was told: {'; '.join(faults)}.",
            remedy="A stage must not write to its params file: choose another commit.",
        )
