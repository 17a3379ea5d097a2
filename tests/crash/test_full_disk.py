"""No room on the journal's disk, or no right to write there: refused, or halted and finished later.

A small file system of its own, by mount: as root alone.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.crash.children import start
from tests.crash.production import Production, produced
from tests.ride_pricing import Built

_UNREACHABLE = 5
_NEW_NAMESPACE = 0x00020000


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def small(
    built_once_for_all: Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Production]:
    """A production whose journal has 32 MiB of disk for itself."""
    folder = tmp_path_factory.mktemp("small")
    own = folder / "production"
    own.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=32m", "tmpfs", str(own))
    except (subprocess.CalledProcessError, FileNotFoundError) as fault:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no file system of its own can be mounted: {fault}")
    try:
        with produced(built_once_for_all.copy(folder / "workspace"), folder) as made:
            yield made
    finally:
        subprocess.run(["umount", "--lazy", str(own)], check=True)


@pytest.mark.parametrize("room", [0, 60_000, 250_000])
def test_a_disk_that_fills_up_is_no_half_way(small: Production, room: int) -> None:
    journey = small.journeys["system" if small.live == "v2" else "system again"]
    small.begin(journey)
    filler = small.system.journal.parent / "filler"
    fill(filler, room)
    ended = small.order(journey).ended()
    assert ended.code == _UNREACHABLE and "disk" in ended.out, ended
    filler.unlink()
    small.expire()
    recovered = small.recover()
    assert recovered.code == 0, recovered.out
    state, wrong = small.settled(journey)
    assert not wrong
    assert state in ("never begun", "refused", "taken back", "completed")
    assert room or state == "never begun"


def test_a_folder_that_cannot_be_written_refuses_before_anything_is_touched(
    small: Production,
) -> None:
    journey = small.journeys["system" if small.live == "v2" else "system again"]
    small.begin(journey)
    before, entries = small.oracle.everything(), small.entries()
    systems = small.system.root / "configs/production"
    words = (*journey.words, "--yes", "--systems", str(systems))
    own = small.system.journal.parent
    out = small.folder / "read-only.out"
    ended = start(words, out, {}, partial(read_only, str(own))).ended()
    assert ended.code == _UNREACHABLE and "written" in ended.out, ended
    assert (small.oracle.everything(), small.entries()) == (before, entries)


def fill(filler: Path, room: int) -> None:
    """Leave so many bytes on its disk."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 4096)
        except OSError:
            file.truncate(max(0, file.tell() - room))


def read_only(folder: str) -> None:
    """Let this process alone see a folder that cannot be written."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NAMESPACE):
        raise OSError(ctypes.get_errno(), "unshare")
    mount("--make-rprivate", "/")
    mount("--bind", folder, folder)
    mount("-o", "remount,bind,ro", folder)
