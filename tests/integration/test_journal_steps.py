"""The journal's steps: intended, done, proved and undone, and durably so."""

import json
import math
import subprocess
import sys

import pytest

from ebbtide.adapters.journal import SqlJournal
from ebbtide.core.errors import (
    PlanChanged,
    Tampered,
)
from ebbtide.core.gates import failed, passed
from ebbtide.core.saga import Level, Phase, SagaState
from tests.integration.journal_fixtures import (  # noqa: F401 - fixtures
    SYSTEM,
    Sql,
    journal,
    opened,
    postgres,
    recorded,
    same_imports,
    sql,
    url,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


def test_a_step_comes_back_as_it_went(journal: SqlJournal) -> None:
    (one,) = recorded(journal, "1")
    saga, lease = opened(journal, one)
    journal.intend(lease, 0, "model.repoint_alias", Phase.CUT_OVER, {"demand": None, "x": [1.5]})
    journal.done(lease, 0)
    journal.found(lease, 0, failed("off", rate=math.nan, limit=0.5))
    journal.intend_undo(lease, 0)
    journal.undone(lease, 0, "registry\0 away")
    (step,) = journal.steps(saga.id)
    assert step.remembered == {"demand": None, "x": [1.5]}
    assert (step.verdict, step.why, step.proved_at) == ("failed", "off", None)
    assert step.measured == {"rate": "nan", "limit": 0.5}
    assert (step.undo_error, step.undone_at) == ("registry away", None)

    journal.undone(lease, 0)
    journal.found(lease, 0, passed("back"))
    (step,) = journal.steps(saga.id)
    assert step.undo_error == ""
    assert step.intent_at <= (step.done_at or 0) <= (step.undo_intent_at or 0)
    assert (step.undo_intent_at or 0) <= (step.undone_at or 0) <= (step.proved_at or 0)


def test_what_a_step_remembered_first_stays(journal: SqlJournal) -> None:
    (one,) = recorded(journal, "1")
    saga, lease = opened(journal, one)
    journal.intend(lease, 3, "route.switch", Phase.CUT_OVER, "before")
    said = [journal.done, journal.intend_undo, journal.undone]
    for say in said:
        say(lease, 3)
    steps = journal.steps(saga.id)
    journal.intend(lease, 3, "route.switch", Phase.CUT_OVER, "after")
    for say in said:
        say(lease, 3)
    journal.undone(lease, 3, "too late")
    assert journal.steps(saga.id) == steps
    assert steps[0].remembered == "before"
    with pytest.raises(PlanChanged):
        journal.intend(lease, 3, "route.other", Phase.CUT_OVER, "before")


def test_a_step_that_was_never_intended_is_not_done(journal: SqlJournal) -> None:
    (one,) = recorded(journal, "1")
    _, lease = opened(journal, one)
    for say in (journal.done, journal.intend_undo, journal.undone):
        with pytest.raises(Tampered):
            say(lease, 0)


_KILLED = """
import os, signal, sys
from ebbtide.adapters.journal import open_journal
from ebbtide.core.lease import Lease
from ebbtide.core.saga import Phase
url, saga, system, holder = sys.argv[1:]
open_journal(url).intend(Lease(saga, system, holder, 1), 0, "a", Phase.PREPARE, {"was": 7})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_an_intent_outlives_the_process_that_wrote_it(
    journal: SqlJournal, url: str, sql: Sql
) -> None:
    (one,) = recorded(journal, "1")
    saga, lease = opened(journal, one)
    command = [sys.executable, "-c", _KILLED, url, saga.id, SYSTEM, lease.holder]
    assert subprocess.run(command, env=same_imports(), check=False).returncode == -9
    assert json.loads(sql("SELECT remembered FROM steps")[0][0]) == {"was": 7}
    assert journal.audit(SYSTEM, 1)[0].what == "step intended"
    assert journal.verify() == []


def test_durations_are_of_completed_sagas_of_the_level(journal: SqlJournal, sql: Sql) -> None:
    (one,) = recorded(journal, "1")
    for level, state in (
        (Level.SYSTEM, SagaState.COMPLETED),
        (Level.SYSTEM, SagaState.TAKEN_BACK),
        (Level.MODEL, SagaState.COMPLETED),
        (Level.SYSTEM, SagaState.COMPLETED),
    ):
        _, lease = opened(journal, one, level)
        for n, name in enumerate(("a", "b")):
            journal.intend(lease, n, name, Phase.PREPARE, None)
        journal.found(lease, 0, passed("ok"))
        journal.close_saga(lease, state)
    sql("UPDATE steps SET intent_at = proved_at - 2500000 WHERE proved_at IS NOT NULL")
    assert journal.durations(SYSTEM, Level.SYSTEM) == {"a": [2.5, 2.5]}
    assert journal.durations(SYSTEM, Level.PROMOTION) == {}
