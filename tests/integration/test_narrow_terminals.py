"""What has to be copied out of a terminal is never folded nor cut: real commands, real widths."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ebbtide.core.journal import Replica
from ebbtide.core.saga import Level
from ebbtide.entrypoints.cli.tables import Table
from flows.order import carry_out
from tests.conftest import Fakes

WIDTHS = (60, 80)
URL = "http://gateway-of-the-second-rack.internal.example.org:5001"


def ebbtide(*words: str, cwd: Path, columns: int, ends: int = 0) -> str:
    """What a command prints in a terminal of that width."""
    done = subprocess.run(
        [sys.executable, "-m", "ebbtide", *words],
        cwd=cwd,
        env={**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ends, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def rolled_back(fakes: Fakes, tmp_path: Path) -> Iterator[Fakes]:
    """Promoted twice, rolled back, with a live replica that has a long URL, and a system file."""
    saga = carry_out(fakes.world, fakes.order(Level.SYSTEM, reason="prices surge in [all] areas"))
    assert saga.state == "completed", saga.why
    file = tmp_path / "configs/systems/fake.yaml"
    file.parent.mkdir(parents=True)
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    file.write_text(f"system: fake\njournal: {journal}\nlayers: {{}}\nroot: ../..\n")
    over = threading.Event()

    def report() -> None:
        fakes.world.journal.report("fake", Replica("one", URL, fakes.good.id, 3, (), {}, 0.0))

    def live() -> None:
        """However long the commands take to start."""
        while not over.wait(0.2):
            report()

    report()
    replica = threading.Thread(target=live)
    replica.start()
    yield fakes
    over.set()
    replica.join()


@pytest.mark.parametrize("columns", WIDTHS)
def test_ids_are_whole_in_every_list(rolled_back: Fakes, tmp_path: Path, columns: int) -> None:
    good, bad = rolled_back.good.short, rolled_back.bad.short
    sagas = [saga.id for saga in rolled_back.world.journal.sagas("fake")]

    def shown(*words: str) -> str:
        return ebbtide(*words, cwd=tmp_path, columns=columns)

    history = shown("history", "fake")
    assert len(sagas) == 3 and all(saga in history for saga in sagas)
    assert history.count(good) == 3 and history.count(bad) == 2
    assert "prices surge in [all] areas" in re.sub(r"\s+", " ", history)
    releases = shown("releases", "fake")
    assert good in releases and bad in releases
    assert "ebbtide lift-quarantine fake RELEASE --reason TEXT" in releases
    status = shown("status", "fake")
    assert all(whole in status for whole in (good, bad, sagas[0], URL))
    assert "ebbtide lift-quarantine fake DIGEST --reason TEXT" in status
    steps = shown("history", "fake", sagas[0][:8])
    assert "golden.answers_smoke_requests" in steps and sagas[0] in steps


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_commands_that_come_next_can_be_pasted(tmp_path: Path, columns: int) -> None:
    folder = tmp_path / "a-rather-long-name-of-a-folder"
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "limits.yaml").write_text("most: 3\n")
    for git in (("init", "-q"), ("add", "."), ("commit", "-qm", "first")):
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        subprocess.run(["git", *who, *git], cwd=folder, check=True)
    systems = folder / "elsewhere" / "systems"
    words = ("init", "demand-planning", "--yes", "--mlflow", "none", "--config", "config")
    told = ebbtide(
        *words, "--output", str(systems / "demand-planning.yaml"), cwd=folder, columns=columns
    )
    for command in ("release demand-planning", "serve demand-planning",
                    "promote demand-planning RELEASE", "doctor demand-planning"):  # fmt: skip
        assert f"ebbtide {command} --systems {systems}" in told
    assert str(systems / "demand-planning.yaml") in told


def test_a_wide_terminal_has_tables(rolled_back: Fakes, tmp_path: Path) -> None:
    told = ebbtide("history", "fake", cwd=tmp_path, columns=160)
    (heads,) = [line for line in told.splitlines() if "opened" in line]
    assert heads.split() == ["saga", "opened", "by", "level", "from", "to", "ended", "reason"]
    assert len([line for line in told.splitlines() if re.match(r" [0-9a-f]{16} ", line)]) == 3


def test_a_column_is_wrapped_only_where_it_is_for_people() -> None:
    table = Table("", ("id", "why"), free=("why",))
    table.add_row("f" * 30, "one two three four five six seven")
    wrapped = _lines(table, 48)
    assert sum("f" * 30 in line for line in wrapped) == 1
    assert all(len(line) <= 48 for line in wrapped) and any("seven" in line for line in wrapped)
    assert _lines(table, 20) == ["f" * 30, "  why one two three four five six seven"]


def _lines(table: Table, width: int) -> list[str]:
    out = Console(width=width)
    with out.capture() as captured:
        table.show(out)
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]
