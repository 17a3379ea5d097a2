"""Effects that wait for somebody are told with the command that follows; payloads are not told."""

import csv
import json
from collections.abc import Sequence

import pytest

from ebbtide.core.checks import Check
from ebbtide.core.effects import State
from ebbtide.core.errors import Conflict, Refused
from ebbtide.core.giving_up import give_up, propose
from ebbtide.core.readiness import examine
from ebbtide.core.saga import Level, SagaState
from flows.levels import STEPS
from flows.unfinished import finish
from tasks import effects as steps
from tests.integration.effects_fixtures import (  # noqa: F401 - fixtures
    SOON,
    Shop,
    inbox,
    shop,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

CANARY = "ada@example.org"


def checks(shop: Shop) -> dict[str, Check]:
    return {check.what: check for check in examine(shop.world, STEPS).checks}


def status(shop: Shop) -> dict[str, object]:
    (found,) = json.loads(shop.invoke("--json", command="status").stdout)
    assert isinstance(found, dict)
    return found


def test_what_was_given_up_is_named_until_it_is_sent_after_all(shop: Shop) -> None:
    shop.inbox.answers |= {"fake/a": [422], "fake/b": [410]}
    for key in ("a", "b", "c"):
        shop.queue(key)
    assert shop.dispatch() == 2
    command = "ebbtide effects fake --retry a --reason TEXT"
    failed = status(shop)["effects_failed"]
    assert isinstance(failed, list)
    assert [each["key"] for each in failed] == ["a", "b"] and failed[0]["by"] == command
    said = shop.invoke(command="status").stdout
    assert "a: Target `mail` answered 422." in said and command in said
    check = checks(shop)["effects failed"]
    assert check.state == "for a person"
    assert "a, b" in check.why and command in check.why and "--state failed" in check.why
    found = examine(shop.world, STEPS, levels=(Level.SYSTEM,))
    assert found.exit_code == 0, "a rollback would work all the same"

    for key in ("a", "b"):
        assert shop.invoke("--retry", key, "--reason", "mended").exit_code == 0
    assert shop.dispatch() == 0
    assert status(shop)["effects_failed"] == [] and "effects failed" not in checks(shop)


def test_many_are_counted_and_the_first_are_named(shop: Shop) -> None:
    for n in range(7):
        shop.queue(f"mail-{n}")
        shop.inbox.answers[f"fake/mail-{n}"] = [400]
    shop.dispatch()
    said = shop.invoke(command="status").stdout
    assert "mail-4: " in said and "mail-5" not in said
    assert "and 2 more: ebbtide effects fake --state failed" in said
    assert "mail-4 and 2 more" in checks(shop)["effects failed"].why


def test_of_a_release_that_was_rolled_back_only_undos_wait_for_somebody(shop: Shop) -> None:
    shop.queue("refused")
    shop.undoable("a")
    shop.inbox.answers |= {"fake/refused": [400], "fake/undo/a": [410]}
    shop.dispatch()
    assert shop.roll_back().state is SagaState.COMPLETED
    shop.dispatch()
    failed = status(shop)["effects_failed"]
    assert isinstance(failed, list)
    assert [each["key"] for each in failed] == ["undo/a"]
    assert failed[0]["by"] == "ebbtide effects fake --retry undo/a --reason TEXT"


def test_what_is_held_is_named_with_what_lets_it_go(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_longest", lambda _world: -2.0)
    shop.undoable("a")
    assert shop.world.journal.claim_effect("fake", {"": 600.0})
    monkeypatch.setattr(steps, "_beginning", lambda _world: False)
    saga = shop.roll_back()
    assert saga.state is SagaState.NEEDS_HUMAN
    shop.queue("waits")
    command = f"ebbtide recover fake --saga {saga.id}"
    found = status(shop)
    assert (found["effects_held"], found["effects_go_on_by"]) == (["waits"], command)
    said = shop.invoke(command="status").stdout
    assert f"waits by saga {saga.id}" in said and command in said
    check = checks(shop)["effects held"]
    assert check.state == "wrong" and "waits" in check.why and command in check.why

    shop.expire_claims()
    (ended,) = finish(shop.world, by="a person", saga=saga.id)
    assert ended.state is SagaState.COMPLETED
    found = status(shop)
    assert (found["effects_held"], found["effects_go_on_by"]) == ([], "")
    assert "effects held" not in checks(shop)


def printed(shop: Shop, *runs: Sequence[str]) -> str:
    """All that commands print, with what they print where they fail."""
    said = ""
    for words in runs:
        found = shop.invoke(*words[1:], command=words[0])
        said += found.stdout + found.stderr + str(found.exception or "")
    return said


def test_payloads_and_answers_are_shown_to_nobody_who_did_not_ask(shop: Shop) -> None:
    mine = {"mail": CANARY}
    shop.inbox.says |= {"fake/a": {"no": CANARY}, "fake/b": {"took": CANARY}}
    shop.inbox.answers["fake/a"] = [422]
    queued = [shop.queue(key, payload=mine) for key in ("a", "b")]
    assert all(CANARY not in repr(each) for each in queued)
    dispatcher = shop.command("--dispatch")
    said, wrong = dispatcher.communicate(timeout=SOON)
    assert "answered 422" in said and CANARY not in said + wrong
    saga = shop.roll_back()
    quiet = printed(
        shop,
        ("effects",),
        ("effects", "--json"),
        ("effects", "--saga", saga.id),
        ("status",),
        ("status", "--json"),
        ("doctor", "--json"),
        ("history",),
        ("history", saga.id),
        ("history", saga.id, "--json"),
    )
    assert '"b"' in quiet and CANARY not in quiet
    assert CANARY not in str(shop.world.journal.audit("", 10_000))
    assert printed(shop, ("effects", "--payloads")).count(CANARY) == 4
    told = json.loads(shop.invoke("--payloads", "--json").stdout)
    assert [each["payload"] for each in told["effects"]] == [mine, mine]
    out = shop.folder / "corrections.csv"
    shop.invoke("--saga", saga.id, "--csv", str(out))
    (row,) = csv.DictReader(out.read_text().splitlines())
    assert json.loads(row["payload"]) == mine


def given_up(shop: Shop) -> None:
    """The bad release, once nothing retains it."""
    route = shop.world.journal.route("fake")
    assert route
    shop.world.journal.give_up("fake", [shop.bad.id], epoch=route.epoch, by="ada", reason="old")


def test_a_payload_goes_with_its_release_and_the_effect_stays_what_it_was(shop: Shop) -> None:
    shop.undoable("sent", payload={"mail": CANARY})
    shop.queue("refused", payload={"mail": CANARY})
    shop.inbox.says["fake/sent"] = {"to": CANARY}
    shop.inbox.answers["fake/refused"] = [400]
    shop.dispatch()
    assert shop.world.journal.forget_effects("fake", by="ada") == 0, "its release is retained"
    shop.roll_back()
    given_up(shop)
    assert shop.world.journal.forget_effects("fake", by="ada") == 2
    waiting = shop.world.journal.effect("fake", "undo/sent")
    assert waiting and waiting.payload == {"sorry": "sent"}, "it has yet to be sent"
    assert CANARY not in str(shop.sql("SELECT * FROM effects"))
    assert shop.world.journal.verify() == []
    shop.dispatch()
    assert shop.inbox.bodies["fake/undo/sent"] == {"sorry": "sent"}
    assert give_up(shop.world, propose(shop.world), by="ada").payloads == 1
    assert shop.world.journal.forget_effects("fake", by="ada") == 0
    assert shop.world.journal.verify() == []

    found = {each.key: each for each in shop.world.journal.effects("fake")}
    assert {each.forgotten for each in found.values()} == {True}
    assert found["sent"].klass.value == "reversible" and found["sent"].state is State.UNDONE
    again = shop.undoable("sent", payload={"mail": CANARY})
    assert again == found["sent"], "the key is still that very effect"
    with pytest.raises(Conflict, match="another one"):
        shop.undoable("sent", payload={"mail": "bob@example.org"})
    with pytest.raises(Refused, match="was deleted"):
        shop.world.journal.requeue_effect("fake", "refused", by="ada", reason="late")


def test_a_payload_that_was_deleted_by_hand_shows(shop: Shop) -> None:
    shop.queue("a")
    shop.dispatch()
    digest = json.loads(shop.sql("SELECT detail FROM audit WHERE what = 'effect queued'")[0][0])
    shop.sql(f"UPDATE effects SET payload = 'sha256:{digest['content']}'")
    assert shop.world.journal.verify()
