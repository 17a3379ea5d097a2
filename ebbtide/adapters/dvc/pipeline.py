"""What a commit's pipeline would make an output of, if it ran: dvc.lock need not be there."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ebbtide.adapters.dvc.definition import Apart, definition, inputs_of, placed, values_of
from ebbtide.adapters.dvc.lock import is_code, maker_of, opened, upstream
from ebbtide.adapters.git.repository import Repository

_COMMITS = 256
"""How many are remembered."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages that make one output, as one commit has them."""

    stage: str
    """The stage that makes it, addressed as for `dvc repro` in the repository's folder."""
    digest: str
    """Digest of the commands, parameters and code; what was set apart is left out."""
    inputs: str
    """Digest of the data that DVC tracks and no stage makes."""
    values: Mapping[str, Mapping[str, Any]]
    """What was set apart: values by params file and dotted key."""


def read_pipeline(repository: Repository, commit: str, out: str, apart: Apart) -> Pipeline:
    """The pipeline of an output at a commit, by its full hash. No dvc.lock is needed, and no cache.

    What a commit has never changes: it is read once in a process. Raises `Unknown` where no
    stage makes the output, `BadConfiguration` where a parameter that is set apart is not
    there, or no stage depends on it: the pipeline would run without noticing its new value.
    """
    fixed = tuple((file, tuple(sorted(keys))) for file, keys in sorted(apart.items()))
    return _read(repository.folder, commit, out, fixed)


@lru_cache(maxsize=_COMMITS)
def _read(
    folder: Path, commit: str, out: str, fixed: tuple[tuple[str, tuple[str, ...]], ...]
) -> Pipeline:
    apart = dict(fixed)
    with opened(Repository(folder), commit) as (repo, root):
        stage, _ = maker_of(repo, root, commit, out)
        stages = upstream(repo, stage)
        code = {each: [dep for dep in each.deps if is_code(repo, dep)] for each in stages}
        return Pipeline(
            stage=f"{posixpath.relpath(stage.dvcfile.path, root)}:{stage.name}",
            digest=definition(code, placed(apart, root)),
            inputs=inputs_of(repo, stages),
            values=values_of(repo, stages, apart, root, commit),
        )
