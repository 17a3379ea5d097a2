"""`ebbtide lift-quarantine`, and what `ebbtide releases` tells of the denied and the composed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ebbtide.core.errors import EbbtideError, Quarantined, Refused, SagaOpen, Unknown
from ebbtide.core.recording import record
from ebbtide.core.release import Release
from ebbtide.core.saga import Level, SagaState
from ebbtide.entrypoints.cli.main import app
from flows.order import carry_out, plan
from tests.conftest import Fakes


@pytest.fixture
def systems(tmp_path: Path) -> Path:
    """A system file over the fakes' journal."""
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    (tmp_path / "fake.yaml").write_text(f"system: fake\njournal: {journal}\nlayers: {{}}\n")
    return tmp_path


def typed(systems: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--systems", str(systems)])


def lifted(systems: Path, what: str) -> dict[str, str]:
    done = typed(systems, "lift-quarantine", "fake", what, "--reason", "mended", "--yes", "--json")
    assert done.exit_code == 0, done.exception
    found: dict[str, str] = json.loads(done.stdout)["lifted"]
    return found


def with_another_model(fakes: Fakes) -> Release:
    """The bad release with a third model that fits its features, promoted."""
    third = fakes.world.layers["model"].pin("main", "3")
    fitting = fakes.bad.with_pins("model", replace(third, at=dict(fakes.bad.pins("model")[0].at)))
    record(fakes.world, fitting, by="tester")
    assert fakes.promote(fitting).state is SagaState.COMPLETED
    return fitting


def test_the_command_that_a_refusal_names_lets_the_release_come_again(
    fakes: Fakes, systems: Path
) -> None:
    carry_out(fakes.world, fakes.order(reason="prices surge"))
    with pytest.raises(Quarantined) as refused:
        fakes.promote(fakes.bad)
    command = re.search(r"ebbtide (lift-quarantine fake \S+) --reason TEXT", refused.value.remedy)
    assert command

    done = typed(systems, *command[1].split(), "--reason", "a wrong alarm", "--by", "eve", "--yes")

    assert done.exit_code == 0 and "prices surge" in done.stdout
    assert fakes.promote(fakes.bad).state is SagaState.COMPLETED
    entry = next(e for e in fakes.world.journal.audit("fake") if e.what == "quarantine lifted")
    assert (entry.who, entry.detail["reason"]) == ("eve", "a wrong alarm")
    assert fakes.world.journal.verify() == []


def test_a_release_is_lifted_with_all_that_it_pins_and_a_content_alone(
    fakes: Fakes, systems: Path
) -> None:
    worse = with_another_model(fakes)
    assert carry_out(fakes.world, fakes.order(Level.MODEL, to=fakes.bad.id)).state == "completed"
    model = worse.pins("model")[0].digest
    assert set(fakes.world.journal.quarantined("fake")) == {worse.id, model}

    assert set(lifted(systems, model[:8])) == {model}
    with pytest.raises(Quarantined, match="release"):
        fakes.promote(worse)
    assert set(lifted(systems, worse.short)) == {worse.id}
    assert fakes.promote(worse).state is SagaState.COMPLETED
    assert carry_out(fakes.world, fakes.order(Level.MODEL, to=fakes.bad.id)).state == "completed"
    assert set(lifted(systems, worse.id)) == {worse.id, model}


def test_a_target_that_was_never_recorded_is_lifted_by_what_denies_it(
    fakes: Fakes, systems: Path
) -> None:
    worse = with_another_model(fakes)
    assert carry_out(fakes.world, fakes.order(Level.MODEL, to=fakes.bad.id)).state == "completed"
    again = replace(fakes.order(Level.MODEL, to=worse.id), accept_unproved=True)
    other = fakes.bad.with_pins("prompt", fakes.world.layers["prompt"].pin("main", "7"))
    record(fakes.world, other, by="tester")
    assert fakes.promote(other).state is SagaState.COMPLETED
    with pytest.raises(Quarantined) as refused:
        plan(fakes.world, again)
    (what,) = re.findall(r"lift-quarantine fake (\S+) --reason", refused.value.remedy)
    assert set(lifted(systems, what)) == {worse.pins("model")[0].digest}
    assert plan(fakes.world, again).composed


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (("{bad}", "--reason", " ", "--yes"), Refused, "for a reason"),
        (("{bad}", "--reason", "mended"), Refused, "Nobody is there"),
        (("{good}", "--reason", "mended", "--yes"), Unknown, "not quarantined"),
        (("abcdef", "--reason", "mended", "--yes"), Unknown, "Nothing that is quarantined"),
        (("%", "--reason", "mended", "--yes"), Unknown, "Nothing that is quarantined"),
    ],
)
def test_what_cannot_be_lifted_is_told_and_stays(
    fakes: Fakes, systems: Path, words: tuple[str, ...], error: type[EbbtideError], says: str
) -> None:
    carry_out(fakes.world, fakes.order())
    given = [word.format(bad=fakes.bad.short, good=fakes.good.short) for word in words]
    done = typed(systems, "lift-quarantine", "fake", *given)
    assert isinstance(done.exception, error) and says in str(done.exception)
    assert set(fakes.world.journal.quarantined("fake")) == {fakes.bad.id}


def test_a_reason_must_be_given(fakes: Fakes, systems: Path) -> None:
    assert typed(systems, "lift-quarantine", "fake", fakes.bad.short, "--yes").exit_code == 2


def test_status_and_releases_show_what_is_denied(fakes: Fakes, systems: Path) -> None:
    worse = with_another_model(fakes)
    carry_out(fakes.world, fakes.order(Level.MODEL, to=fakes.bad.id, reason="prices surge"))
    (status,) = json.loads(typed(systems, "status", "fake", "--json").stdout)
    denied = {each["digest"]: each["why"] for each in status["quarantined"]}
    assert denied == dict(fakes.world.journal.quarantined("fake")) and len(denied) == 2
    standing = {
        each["id"]: each["standing"]
        for each in json.loads(typed(systems, "releases", "fake", "--json").stdout)
    }
    assert "quarantined" in standing[worse.id]
    assert "quarantined" not in standing[fakes.bad.id] + standing[fakes.good.id]


def test_what_a_refused_order_has_composed_is_no_release_to_choose(
    fakes: Fakes, systems: Path
) -> None:
    saga = carry_out(fakes.world, fakes.order(Level.MODEL, models={"main": "1"}))
    assert saga.state is SagaState.REFUSED

    def listed(*words: str) -> set[str]:
        return {
            each["id"]
            for each in json.loads(typed(systems, "releases", "fake", *words, "--json").stdout)
        }

    assert listed() == {fakes.good.id, fakes.bad.id}
    assert listed("--all") == {fakes.good.id, fakes.bad.id, saga.target}
    assert fakes.world.journal.release(saga.target).id == saga.target


def test_an_order_that_never_began_leaves_no_release(fakes: Fakes) -> None:
    order = fakes.order(Level.MODEL, models={"main": "1"})
    fakes.world.journal.open_saga(plan(fakes.world, fakes.order()).plan, by="her", reason="")
    before = fakes.world.journal.audit("fake")
    with pytest.raises(SagaOpen):
        carry_out(fakes.world, order)
    assert len(fakes.world.journal.releases("fake")) == 2
    assert fakes.world.journal.audit("fake") == before
