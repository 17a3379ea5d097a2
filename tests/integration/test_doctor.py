"""`ebbtide doctor` on the reference system, as a person and as a machine call it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ebbtide.adapters.system.places import cannot_write, link_folders, room
from ebbtide.core.saga import Level
from ebbtide.entrypoints.cli.main import app
from tests.ride_pricing import Running


def typed(system: Running, *words: str) -> tuple[int, str]:
    """The command in a process of its own: its exit code and what it prints."""
    run = subprocess.run(
        [sys.executable, "-m", "ebbtide", "doctor", *words, "--systems", str(system.file._folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        check=False,
    )
    assert "Traceback" not in run.stderr, run.stderr
    return run.returncode, run.stdout + run.stderr


def found(system: Running, *words: str) -> tuple[int, list[dict[str, Any]]]:
    """The same in this process, which has the clients of every store loaded."""
    run = CliRunner().invoke(
        app, ["doctor", "--json", *words, "--systems", str(system.file._folder)]
    )
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    systems = json.loads(run.stdout)
    assert run.exit_code in {one["exit_code"] for one in systems}
    return run.exit_code, systems


def test_it_says_what_a_rollback_would_do_and_how_long_it_would_take(pricing: Running) -> None:
    code, (before,) = found(pricing)
    levels = {level["level"]: level for level in before["levels"]}
    assert levels["system"]["works"] == "yes"
    assert levels["system"]["target"] == pricing.release("v2").id
    assert levels["system"]["took"] is None
    # v2's model was made for other features than v3's: only the whole release goes back.
    assert (levels["model"]["works"], code) == ("no", 9)
    assert "trained on" in levels["model"]["why"][0]
    assert found(pricing, "--level", "system")[0] == 0

    assert pricing.order(Level.SYSTEM).target == pricing.release("v2").id
    took = found(pricing)[1][0]["levels"][1]["took"]
    assert took["runs"] == 1 and 0 < took["switched"] < took["median"] == took["p95"] < 60
    code, text = typed(pricing)
    assert code == 9
    assert "1 run, the newest" in text and "switched after" in text
    assert pricing.release("v1").short in text


def test_what_is_lost_and_what_has_drifted_is_named(pricing: Running) -> None:
    link, config = pricing.file.at("live/config"), pricing.release("v1").pins("config")[0]
    shown = os.readlink(link)
    digest = pricing.release("v2").pins("features")[0].digest
    kept = next((pricing.file.state_dir / "releases" / digest).rglob("*.parquet"))
    whole, mode = kept.read_bytes(), kept.stat().st_mode
    kept.chmod(0o644)
    link.unlink()
    try:
        kept.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        link.symlink_to(pricing.file.state_dir / "settings" / config.digest)
        code, (one,) = found(pricing, pricing.file.system)
    finally:
        kept.write_bytes(whole)
        kept.chmod(mode)
        link.unlink()
        link.symlink_to(shown)
    wrong = {check["what"]: check["why"] for check in one["checks"] if check["state"] == "wrong"}
    assert "the live release pins" in wrong["config pricing follows the route"]
    assert any(what.startswith("features demand") and kept.name in wrong[what] for what in wrong)
    assert (one["levels"][1]["works"], code) == ("no", 9)
    assert kept.name in one["levels"][1]["why"][0]


def test_what_no_rollback_needs_now_is_hashed_only_where_that_is_asked_for(
    pricing: Running,
) -> None:
    digest = pricing.release("v1").pins("features")[0].digest
    assert digest not in {
        pricing.release(other).pins("features")[0].digest for other in ("v2", "v3")
    }
    kept = next((pricing.file.state_dir / "releases" / digest).rglob("*.parquet"))
    whole, mode = kept.read_bytes(), kept.stat().st_mode
    kept.chmod(0o644)
    try:
        kept.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        (glanced,) = found(pricing)[1]
        (deep,) = found(pricing, "--deep")[1]
        _, text = typed(pricing)
        kept.write_bytes(whole[1:])
        (shorter,) = found(pricing)[1]
    finally:
        kept.write_bytes(whole)
        kept.chmod(mode)
    assert kept.name not in str(glanced["checks"])
    assert any(digest[:10] in what for what in map(str, glanced["not_hashed"])), glanced
    assert "not hashed: " in text and "--deep" in text
    assert kept.name in str(deep["checks"]) and deep["not_hashed"] == []
    assert f"{kept.name} has {len(whole) - 1} bytes, not {len(whole)}" in str(shorter["checks"])


def test_a_registry_that_is_away_stops_no_rollback_and_is_not_called_fine(
    pricing: Running,
) -> None:
    registry = pricing.root / "mlflow.db"
    aside = registry.with_suffix(".aside")
    registry.rename(aside)
    try:
        code, (one,) = found(pricing)
    finally:
        aside.rename(registry)
    assert code in (9, 10)
    works = {level["level"]: level["works"] for level in one["levels"]}
    assert works["system"] == "yes", "the gateway loads what ebbtide has kept"
    away = [check for check in one["checks"] if check["state"] == "not checked"]
    assert away and all("mlflow.db" in check["why"] for check in away)


def test_prefect_that_is_away_stops_nothing(
    pricing: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    code, (one,) = found(pricing, "--level", "system")
    prefect = next(check for check in one["checks"] if check["what"] == "prefect")
    assert (code, prefect["state"]) == (0, "away")


def test_one_system_that_cannot_be_read_hides_no_other(pricing: Running) -> None:
    broken = pricing.file._folder / "broken.yaml"
    broken.write_text("system: broken\nlayers: 7\n")
    code, (one, other) = found(pricing)
    assert (one["system"], {level["works"] for level in one["levels"]}) == ("broken", {"no"})
    assert (other["live"], code) == (pricing.release("v3").id, 9)
    assert found(pricing, "nowhere")[0] == 9
    assert typed(pricing, "--level", "moon")[0] == 2


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write everywhere."""
    before = os.geteuid()
    os.seteuid(before or 65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_folder_that_cannot_be_written_is_told() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o555)
        with as_nobody():
            assert cannot_write(Path(made)) == [f"{made} cannot be written by this user."]
            assert cannot_write(Path(made) / "not" / "there") == cannot_write(Path(made))
        Path(made).chmod(0o755)


def test_the_places_of_a_system(pricing: Running, tmp_path: Path) -> None:
    assert list(link_folders(pricing.file)) == [pricing.root / "live"]
    assert cannot_write(tmp_path / "not" / "there") == []
    (tmp_path / "file").write_text("")
    assert cannot_write(tmp_path / "file" / "folder") == [f"{tmp_path / 'file'} is no folder."]
    wrong, free, needed = room(pricing.file.state_dir, pricing.release("v1"))
    assert wrong == [] and 0 < needed < free
    assert room(tmp_path / "nothing", None)[2] == 0
