"""`ebbtide demo` plays what an installed package brings, and knows none by name."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ebbtide.core.errors import Refused, Unknown
from ebbtide.entrypoints.cli.main import app


@pytest.fixture
def bakery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package, installed as pip leaves it, with a demo of its own."""
    about = tmp_path / "bakery-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bakery\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[ebbtide.demos]\nbakery = bakery_demo:play\n")
    (tmp_path / "bakery_demo.py").write_text(
        "def play(folder):\n    (folder / 'played').write_text('burnt')\n    return 7\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_demo_of_another_package_is_played(bakery: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "bakery", "--folder", str(bakery)])
    assert done.exit_code == 7
    assert (bakery / "played").read_text() == "burnt"


def test_a_demo_of_one_incident_takes_no_other(bakery: Path) -> None:
    words = ["demo", "bakery", "--incident", "flood", "--folder", str(bakery)]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, Refused) and "flood" in done.exception.message
    assert not (bakery / "played").exists()


def test_a_demo_of_several_is_told_which(bakery: Path) -> None:
    (bakery / "bakery_demo.py").write_text(
        "def play(folder, incident='fire'):\n"
        "    (folder / 'played').write_text(incident)\n    return 0\n"
    )
    for words, played in ((("--incident", "flood"), "flood"), ((), "fire")):
        sys.modules.pop("bakery_demo", None)
        done = CliRunner().invoke(app, ["demo", "bakery", *words, "--folder", str(bakery)])
        assert done.exit_code == 0, done.exception
        assert (bakery / "played").read_text() == played


def test_one_of_several_must_be_named(bakery: Path) -> None:
    for words in ((), ("nowhere",)):
        done = CliRunner().invoke(app, ["demo", *words, "--folder", str(bakery)])
        assert isinstance(done.exception, Unknown)
        assert "bakery, ride-pricing" in done.exception.remedy
    assert not (bakery / "played").exists()


def test_the_reference_system_brings_its_own() -> None:
    from importlib.metadata import entry_points

    from reference.ride_pricing.demo import play

    (found,) = set(entry_points(group="ebbtide.demos"))
    assert found.name == "ride-pricing" and found.load() is play
