"""Short logs: every commit since the last checkpoint is read again whenever a table is opened.

A rollback opens a table some ten times and commits to it up to four times, so
without checkpoints each one makes the next slower: 240 commits cost 20 ms an opening.
"""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ebbtide.adapters.delta.history import store_of
from ebbtide.adapters.delta.versions import said

if TYPE_CHECKING:
    from deltalake import DeltaTable

_log = logging.getLogger(__name__)

_LONG = 10
"""Commits since the last checkpoint. Writing one takes some milliseconds, and more for
tables of very many files: seldom enough, and never during a cut-over."""


def shorten(table: "DeltaTable", folder: Path | None) -> None:
    """Write a checkpoint where many commits came since the last. Deletes nothing.

    `folder`: where the table lies on this disk, if it does; what is written is synced
    there. Where it cannot be written the table is as good as before, only slower.
    """
    from deltalake.exceptions import DeltaError

    if table.version() - _last(table) < _LONG:
        return
    try:
        table.create_checkpoint()
        if folder is not None:
            _sync(folder / "_delta_log", table.version())
    except (DeltaError, OSError) as fault:
        _log.warning("no checkpoint of %s could be written: %s", table.table_uri, said(fault))


def _last(table: "DeltaTable") -> int:
    """The version of the newest checkpoint that the log names; -1: none."""
    try:
        with store_of(table).open_input_stream("_delta_log/_last_checkpoint") as file:
            return int(json.loads(file.read())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def _sync(log: Path, version: int) -> None:
    """First what the pointer leads to, then the pointer."""
    for path in (*log.glob(f"{version:020}.checkpoint*.parquet"), log / "_last_checkpoint", log):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
