"""Asking, right before a write outside the journal, whether this process may still write.

The journal fences its own writes. A store outside knows nothing of leases: what
keeps a process out of it that slept past its lease is that it asks once more,
as late as it can. Where the store has a compare-and-set (the version of a
Delta table) nothing slips through; where it has none (a registry's alias, a
link) what is left is the time between this question and the write.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_check: ContextVar[Callable[[], None] | None] = ContextVar("check", default=None)


@contextmanager
def guarded(check: Callable[[], None]) -> Iterator[None]:
    """Within, `still_ours` asks `check`, which raises `Fenced` where the lease is lost."""
    before = _check.set(check)
    try:
        yield
    finally:
        _check.reset(before)


def still_ours() -> None:
    """To be called by an adapter right before a write. Raises `Fenced`; no-op outside a saga."""
    check = _check.get()
    if check is not None:
        check()
