"""What Python's garbage collector need not look at."""

import gc

_THRESHOLDS = (700, 10, 10)
"""Python's own, whatever the command line set for its short life."""


def begin() -> None:
    """What is loaded by now stays: only what requests make is worth a look.

    For a process that does nothing but serve.
    """
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def settle(*, let_go: bool = False) -> None:
    """A release was loaded: it stays, too. Nothing where the process did not `begin`.

    A release and its libraries are hundreds of thousands of objects. To look through them all
    stops every request for a quarter of a second, and it would come at any moment, also right
    after a switch. Here it comes before the release is reported as warm. `let_go`: also look
    for what is left of those that were let go since.
    """
    if not gc.get_freeze_count():
        return
    if let_go:
        gc.unfreeze()
    gc.collect()
    gc.freeze()
