"""The runbook for when ebbtide is away: its very commands, run as they stand on the page."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ebbtide.core.saga import SagaState
from tests.ride_pricing import Running

PAGE = Path(__file__).parents[2] / "docs/roll-back-by-hand.md"
_RUN = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def tools() -> None:
    missing = [tool for tool in ("bash", "jq", "sqlite3") if not shutil.which(tool)]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed here: {', '.join(missing)}")
    assert not missing


def test_the_runbook_puts_every_projection_back_and_ebbtide_agrees_afterwards(
    pricing: Running,
) -> None:
    target = pricing.release("v1")
    try:
        told = _follow_the_page(pricing, target.id[:12])
    finally:
        _tidy(pricing.root)

    shown, wanted = pricing.shown(), pricing.as_it_was_at("v1")
    assert shown.pop("route") == pricing.release("v3").id
    assert shown == {name: value for name, value in wanted.items() if name != "route"}
    assert "rider-message" in told and "promotion" in told

    saga = pricing.order(to=target.id, reason="rolled back by hand")

    assert saga.state is SagaState.COMPLETED, saga.why
    assert pricing.shown() == wanted
    assert pricing.release("v3").id in pricing.world.journal.quarantined("ride-pricing")
    assert pricing.world.journal.verify() == []


def _follow_the_page(pricing: Running, target: str) -> str:
    """Run its shell blocks in their order, with this test's journal and target. What they print."""
    script = "".join(_RUN.findall(PAGE.read_text(encoding="utf-8")))
    for name, value in {"JOURNAL": str(pricing.journal), "TARGET": target}.items():
        script, set_once = re.subn(rf"^{name}=\S+", f"{name}={value}", script, flags=re.MULTILINE)
        assert set_once == 1
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=pricing.root,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _tidy(root: Path) -> None:
    shutil.rmtree(root / "before", ignore_errors=True)
    (root / "target.json").unlink(missing_ok=True)
