"""Which processes are measured for the coverage report: it makes each half as slow again."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_COVERAGE = "COVERAGE_"


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a program that is not ours."""
    return {name: value for name, value in environment.items() if not name.startswith(_COVERAGE)}


@contextmanager
def others_unmeasured() -> Iterator[None]:
    """The same for every process that is started meanwhile."""
    before, kept = dict(os.environ), unmeasured(os.environ)
    for name in before.keys() - kept.keys():
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update({name: before[name] for name in before.keys() - kept.keys()})
