"""Programs that the reference system runs: none is left behind, none fails in silence."""

import os
import time
from pathlib import Path

import pytest

from ebbtide.core.errors import EbbtideError
from reference.ride_pricing.commands import environment, follow, run


def test_a_failed_command_shows_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(EbbtideError, match="no luck"):
        run("sh", "-c", "echo no luck >&2; exit 3", cwd=tmp_path)
    with pytest.raises(EbbtideError, match="no luck"):
        follow("sh", "-c", "echo no luck; exit 3", cwd=tmp_path, line=lambda _: None)


def test_an_interrupted_command_takes_its_children_along(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        (tmp_path / "child").write_text(line)
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        follow("sh", "-c", "sleep 300 & echo $!; wait", cwd=tmp_path, line=interrupt)
    child = Path("/proc", (tmp_path / "child").read_text(), "stat")
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() - started < 20, "the child still runs"
        time.sleep(0.02)


def test_another_repository_of_a_hook_does_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", os.devnull)
    assert "GIT_DIR" not in environment()
