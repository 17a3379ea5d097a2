"""A system that ebbtide has never seen is adopted, goes wrong, and goes back under traffic.

The incident is played once, by public commands only; each test asks what one
promise was worth.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.acceptance.bikes import incident as incidents
from tests.acceptance.bikes.commands import asked, ebbtide
from tests.acceptance.bikes.expected import error, planned
from tests.acceptance.bikes.incident import Incident
from tests.acceptance.bikes.workspace import SYSTEM

pytestmark = pytest.mark.timeout(600)  # of the first test, that waits for a whole incident

Expected = Mapping[str, Sequence[Any]]


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory) -> Incident:
    return incidents.play(tmp_path_factory.mktemp("foreign") / "bikes")


@pytest.fixture(scope="module")
def expected(incident: Incident) -> Expected:
    """Each release's answers for the whole week, worked out aside."""
    folder, versions = incident.workspace.folder, incident.workspace.versions
    answers = {
        version.release: planned(folder, version, version.model, incident.pool)
        for version in versions.values()
    }
    composed = str(incident.sagas["model"]["target"])
    answers[composed] = planned(folder, versions["v4"], versions["v2"].model, incident.pool)
    return answers


def test_the_incident_is_real(incident: Incident, expected: Expected) -> None:
    """The bad release looked best where it was trained, and was worst in production."""
    versions = incident.workspace.versions
    assert versions["v3"].held_out_error < versions["v2"].held_out_error
    errors = {
        name: error(expected[version.release], incident.workspace.happened)
        for name, version in versions.items()
    }
    assert errors["v3"] > 2 * errors["v2"], errors


def test_the_model_alone_is_refused_and_the_level_that_works_is_named(incident: Incident) -> None:
    refused = incident.refused
    assert refused.code == 3
    assert "never proved together" in refused.said
    assert "Level `system` works" in refused.said
    assert incident.workspace.versions["v2"].release[:12] in refused.said
    assert incident.shown["refused"] == incident.shown["v3"]


def test_the_whole_system_goes_back_in_every_store(incident: Incident) -> None:
    v2, v3 = (incidents.as_released(incident.workspace, name) for name in ("v2", "v3"))
    assert incident.shown["v3"] == v3
    assert incident.sagas["rollback"]["state"] == "completed"
    assert incident.shown["rolled back"] == v2
    differing = {store for store in v2 if v2[store] != v3[store]}
    assert differing == {"route", "model", "features", "crews"}


def test_a_release_that_differs_in_the_model_alone_gives_its_model_back(incident: Incident) -> None:
    before, after = incident.shown["v4"], incident.shown["model rolled back"]
    assert before == incidents.as_released(incident.workspace, "v4")
    assert incident.sagas["model"]["state"] == "completed"
    assert after["model"] == incident.workspace.versions["v2"].model
    assert {store for store in after if after[store] != before[store]} == {"route", "model"}


def test_no_request_failed_and_none_was_answered_by_two_releases(
    incident: Incident, expected: Expected
) -> None:
    versions = incident.workspace.versions
    served = [versions[name].release for name in ("v3", "v2", "v4")]
    assert incident.clients.failed() == []
    assert incident.clients.mixed(expected) == []
    assert incident.clients.releases() == [*served, incident.sagas["model"]["target"]]


def test_a_mixed_answer_would_have_been_noticed(incident: Incident, expected: Expected) -> None:
    """Judged by what another release answers, each response of a release is a mixed one."""
    versions = incident.workspace.versions
    v2, v3 = versions["v2"].release, versions["v3"].release
    answered = [each for each in incident.clients.asked if each.release == v2]
    assert len(incident.clients.mixed({**expected, v2: expected[v3]})) == len(answered) > 0


def test_the_journal_says_what_happened(incident: Incident) -> None:
    folder = incident.workspace.folder
    assert "projections: as it should be" in ebbtide("verify", SYSTEM, cwd=folder).said
    (status,) = asked("status", SYSTEM, cwd=folder)
    assert status["live"] == incident.sagas["model"]["target"]
    standing = {each["note"]: each["standing"] for each in asked("releases", SYSTEM, cwd=folder)}
    assert "quarantined" in standing["v3"]
    assert "proved good" in standing["v2"]
    states = [(saga["level"], saga["state"]) for saga in asked("history", SYSTEM, cwd=folder)]
    assert states[:4] == [
        ("model", "completed"),
        ("promotion", "completed"),
        ("system", "completed"),
        ("model", "refused"),
    ]
