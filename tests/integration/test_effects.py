"""Side effects: sent at least once under one key, never while held, settled after a rollback."""

import csv
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from ebbtide import effects
from ebbtide.adapters.receivers.http import HttpReceivers
from ebbtide.core import dispatch, engine
from ebbtide.core.dispatch import all_due, next_one
from ebbtide.core.effects import BEGIN_WITHIN, State, for_a_person
from ebbtide.core.errors import Conflict, Held, Quarantined, Refused, UndoConflict, Unknown
from ebbtide.core.gates import Finding, failed, passed
from ebbtide.core.lease import Lease
from ebbtide.core.planner import Order
from ebbtide.core.ports import World
from ebbtide.core.saga import Level, Move, Phase, SagaState
from flows.order import plan
from flows.unfinished import finish
from tasks import effects as steps
from tasks import route
from tests.integration.effects_fixtures import (  # noqa: F401 - fixtures
    SOON,
    Shop,
    inbox,
    shop,
    target,
    until,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture


def test_what_is_queued_twice_is_sent_once(shop: Shop) -> None:
    first = shop.queue("a")
    assert shop.queue("a") == first and shop.states() == {"a": "queued"}
    with pytest.raises(Conflict, match="another one"):
        effects.queue(shop.world, "mail", {"to": "b"}, key="a", klass="irreversible")
    assert shop.dispatch() == 0 == shop.dispatch()
    assert shop.arrived == ["a"] and shop.states() == {"a": "sent"}
    headers = shop.inbox.headers["fake/a"]
    assert headers["Ebbtide-Release"] == shop.bad.id and headers["Ebbtide-Kind"] == "mail"
    assert shop.inbox.bodies == {"fake/a": {"to": "a"}}
    assert shop.queue("a").state is State.SENT and shop.dispatch() == 0
    assert shop.arrived == ["a"] and shop.world.journal.verify() == []


@pytest.mark.parametrize(
    ("wish", "fault", "says"),
    [
        ({"key": "no key"}, Refused, "no key of an effect"),
        ({"key": "undo/a"}, Refused, "own"),
        ({"klass": "perhaps"}, Refused, "one of reversible"),
        ({"klass": "reversible"}, Refused, "has no undo"),
        ({"undo": effects.Undo("mail", 1)}, Refused, "has an undo"),
        ({"kind": "pigeon"}, Unknown, "names under `effects.targets`: mail"),
        ({"payload": float("nan")}, Refused, "no JSON"),
        ({"payload": {"to": {1, 2}}}, Refused, "no JSON"),
        ({"payload": "x" * 300_000}, Refused, "300,002 bytes"),
        ({"release": "abcdef12"}, Unknown, "No release"),
    ],
)
def test_what_cannot_be_sent_is_refused(
    shop: Shop, wish: dict[str, object], fault: type[Exception], says: str
) -> None:
    given = {"kind": "mail", "payload": 1, "key": "a", "klass": "irreversible", **wish}
    with pytest.raises(fault, match=says):
        effects.queue(shop.world, **given)  # type: ignore[arg-type]
    assert shop.states() == {}


def test_dispatchers_beside_each_other_send_nothing_twice(shop: Shop) -> None:
    wanted = [f"m{n}" for n in range(24)]
    for key in wanted:
        shop.queue(key)
    with ThreadPoolExecutor(4) as pool:
        lost = list(pool.map(lambda _: shop.dispatch(), range(4)))
    assert lost == [0] * 4 and sorted(shop.arrived) == sorted(wanted)
    assert set(shop.states().values()) == {"sent"} and shop.world.journal.verify() == []


@pytest.mark.parametrize(
    ("point", "arrives"), [("effects.dispatch/claimed", 1), ("effects.dispatch/sent", 2)]
)
def test_a_dispatcher_that_dies_is_made_up_for_under_the_same_key(
    shop: Shop, point: str, arrives: int
) -> None:
    shop.queue("a")
    process = shop.command("--dispatch", EBBTIDE_CRASH_AT=point)
    process.communicate(timeout=SOON)
    assert process.returncode == -9 and shop.states() == {"a": "sending"}
    assert shop.dispatch() == 0 and shop.states() == {"a": "sending"}, "its claim still runs"
    shop.expire_claims()
    shop.dispatch()
    assert shop.inbox.keys == ["fake/a"] * arrives and shop.states() == {"a": "sent"}
    assert shop.world.journal.verify() == []


def test_a_dispatcher_that_comes_back_too_late_writes_nothing(shop: Shop) -> None:
    shop.queue("a")
    journal = shop.world.journal
    late = journal.claim_effect("fake", {"": 5.0})
    assert late and shop.world.receivers
    shop.expire_claims()
    again = journal.claim_effect("fake", {"": 5.0})
    assert again and again.claim != late.claim and again.unsure, "the first may have sent it"
    sent = shop.world.receivers.send(late)
    assert not journal.end_claim(late, sent, wait=None)
    assert journal.end_claim(again, sent, wait=None) and shop.states() == {"a": "sent"}


@pytest.mark.parametrize("status", [400, 404, 422, 302])
def test_what_is_refused_is_not_tried_again(shop: Shop, status: int) -> None:
    shop.queue("a")
    shop.inbox.answers["fake/a"] = [status]
    assert shop.dispatch() == 1
    assert shop.arrived == ["a"] and shop.states() == {"a": "failed"}
    (effect,) = shop.world.journal.effects("fake")
    assert str(status) in effect.why and not effect.unsure


def test_what_fails_for_now_is_tried_again_until_it_is_given_up(shop: Shop) -> None:
    shop.queue("a")
    shop.queue("b")
    shop.inbox.answers |= {"fake/a": [500, 429, 503], "fake/b": [500] * 99}
    few = HttpReceivers({"mail": target(shop.inbox, attempts=5)})
    world = replace(shop.world, receivers=few)
    until(lambda: (next_one(world), "queued" not in shop.states().values())[1])
    assert shop.states() == {"a": "sent", "b": "failed"}
    assert shop.arrived.count("a") == 4 and shop.arrived.count("b") == 5
    effect = shop.world.journal.effect("fake", "b")
    assert effect and effect.unsure and effect.attempts == 5, "a 500 says nothing for sure"
    assert shop.world.journal.verify() == []


def test_the_receiver_says_how_long_to_wait(shop: Shop) -> None:
    shop.queue("a")
    shop.inbox.answers["fake/a"], shop.inbox.delays["fake/a"] = [429], "300"
    attempt = next_one(shop.world)
    assert attempt and attempt.wait == 300 and next_one(shop.world) is None
    effect = shop.world.journal.effect("fake", "a")
    assert effect and effect.due_at - shop.world.journal.now() > 200 and not effect.unsure


def test_a_receiver_that_is_down_loses_nothing(shop: Shop) -> None:
    nobody = replace(shop.inbox, url="http://127.0.0.1:1/in")
    down = replace(shop.world, receivers=HttpReceivers({"mail": target(nobody)}))
    shop.queue("a")
    attempt = next_one(down)
    assert attempt and attempt.wait is not None and "cannot be reached" in attempt.sent.said
    effect = shop.world.journal.effect("fake", "a")
    assert effect and not effect.unsure, "nobody took it"
    shop.dispatch_until("a")
    assert shop.states() == {"a": "sent"}


def test_no_answer_in_time_leaves_it_open_whether_it_arrived(shop: Shop) -> None:
    hasty = HttpReceivers({"mail": target(shop.inbox, timeout=0.2, attempts=1)})
    shop.undoable("a")
    shop.inbox.hanging.add("fake/a")
    assert all_due(replace(shop.world, receivers=hasty), lambda _: None) == 1
    effect = shop.world.journal.effect("fake", "a")
    assert effect and effect.state is State.FAILED and effect.unsure
    shop.inbox.hang.set()
    assert shop.roll_back().state is SagaState.COMPLETED
    shop.dispatch()
    assert shop.arrived == ["a", "undo/a"], "it arrived, and is undone"
    assert shop.states() == {"a": "undone", "undo/a": "sent"}


def test_secrets_come_from_the_environment(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = target(shop.inbox, headers={"Authorization": "Bearer ${MAIL_TOKEN}"})
    world = replace(shop.world, receivers=HttpReceivers({"mail": secret}))
    shop.queue("a")
    attempt = next_one(world)
    assert attempt and "MAIL_TOKEN is not set" in attempt.sent.said and shop.arrived == []
    monkeypatch.setenv("MAIL_TOKEN", "kötét")
    until(lambda: next_one(world))
    effect = shop.world.journal.effect("fake", "a")
    assert effect and "UnicodeEncodeError" in effect.why and "kö" not in effect.why
    monkeypatch.setenv("MAIL_TOKEN", "s3cret")
    until(lambda: next_one(world))
    assert shop.inbox.headers["fake/a"]["Authorization"] == "Bearer s3cret"
    assert shop.sql("SELECT count(*) FROM audit WHERE detail LIKE '%s3cret%'") == [(0,)]


def test_a_rollback_cancels_undoes_newest_first_and_names_the_rest(shop: Shop) -> None:
    for key in ("a", "b", "c"):
        shop.undoable(key, klass="compensatable")
    shop.queue("gone")
    shop.queue("good", release=shop.good.id)
    shop.dispatch()
    shop.undoable("never")
    shop.queue("later")
    saga = shop.roll_back(reason="surge")
    assert saga.state is SagaState.COMPLETED, saga.why
    settled = dict.fromkeys(("never", "later"), "cancelled")
    sent = dict.fromkeys(("a", "b", "c", "gone", "good"), "sent")
    undos = dict.fromkeys(("undo/c", "undo/b", "undo/a"), "queued")
    assert shop.states() == sent | settled | undos
    shop.dispatch()
    assert shop.arrived == ["a", "b", "c", "gone", "good", "undo/c", "undo/b", "undo/a"]
    assert shop.inbox.bodies["fake/undo/c"] == {"sorry": "c"}
    assert shop.inbox.headers["fake/undo/c"]["Ebbtide-Undoes"] == "fake/c"
    assert [shop.states()[key] for key in "abc"] == ["undone"] * 3
    assert shop.world.journal.effects_held("fake") is None and shop.world.journal.verify() == []

    (step,) = (s for s in shop.world.journal.steps(saga.id) if s.name == "effects.settle")
    assert "2 cancelled, 3 to be undone, 1 for a person: gone." in step.why
    assert f"--saga {saga.id} --csv" in step.why
    with pytest.raises(Quarantined, match="rolled back"):
        shop.queue("new", release=shop.bad.id)
    shop.queue("later", release=shop.good.id)
    shop.dispatch()
    assert shop.arrived[-1] == "later", "another release may say the same"


def test_what_a_person_has_to_correct_is_in_the_csv(shop: Shop) -> None:
    for key in ("down", "lost"):
        shop.queue(key)
    shop.undoable("a")
    shop.inbox.says["fake/down"] = "=cmd()"
    shop.inbox.answers["fake/undo/a"] = [410]
    shop.dispatch()
    saga = shop.roll_back()
    shop.dispatch()
    out = shop.folder / "corrections.csv"
    said = shop.invoke("--saga", saga.id, "--csv", str(out), "--json").stdout
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {row["key"]: row["why"].partition(",")[0] for row in rows} == {
        "down": "It was sent", "lost": "It was sent", "a": "It was sent",
    }  # fmt: skip
    assert "its undo failed" in next(row["why"] for row in rows if row["key"] == "a")
    told = json.loads(said)
    assert [each["key"] for each in told["corrections"]] == [row["key"] for row in rows]
    assert next(row["answer"] for row in rows if row["key"] == "down") == '"=cmd()"'
    assert "--saga ID" in str(shop.invoke("--csv", str(out)).exception)

    shop.world.journal.requeue_effect("fake", "undo/a", by="ada", reason="they mended it")
    shop.dispatch()
    assert shop.states()["a"] == "undone" and shop.world.journal.verify() == []


def test_an_undo_says_what_the_receiver_had_answered(shop: Shop) -> None:
    close = effects.Undo("mail", {"close": "{answer.ticket.id}", "why": ["{answer.notes.0}"]})
    for key in ("a", "b"):
        shop.queue(key, undo=close)
    shop.inbox.says["fake/a"] = {"ticket": {"id": 77}, "notes": ["open"]}
    shop.inbox.says["fake/b"] = {"ticket": 5}
    shop.dispatch()
    saga = shop.roll_back()
    shop.dispatch()
    assert shop.inbox.bodies["fake/undo/a"] == {"close": 77, "why": ["open"]}
    mine = shop.world.journal.effects("fake", saga=saga.id)
    ((effect, why),) = for_a_person(mine)
    assert effect.key == "b" and "could not be made" in why
    assert "has no `ticket.id`" in effect.why


def test_an_undo_waits_for_those_before_it(shop: Shop) -> None:
    for key in ("a", "b"):
        shop.undoable(key)
    shop.dispatch()
    shop.inbox.answers["fake/undo/b"], shop.inbox.delays["fake/undo/b"] = [503], "300"
    shop.roll_back()
    shop.queue("other", release=shop.good.id)
    shop.dispatch()
    assert shop.arrived[2:] == ["undo/b", "other"], "others do not wait"
    shop.sql("UPDATE effects SET due_at = 1")
    shop.dispatch()
    assert shop.arrived[4:] == ["undo/b", "undo/a"], "newest first, whatever gets in the way"


def test_nothing_is_sent_from_the_cut_over_until_it_is_settled(shop: Shop) -> None:
    """A dispatcher races with the saga while effects keep coming."""
    stop, queued = threading.Event(), list[str]()

    def keep_queueing() -> None:
        while not stop.wait(0.01):
            key = f"k{len(queued)}"
            shop.queue(key, release=shop.good.id)
            queued.append(key)

    def many_more(_world: World, _move: Move) -> Finding:
        then = len(queued)
        until(lambda: len(queued) > then + 10)
        return passed("there was enough to send")

    world = replace(shop.world, own_gates={Phase.PROVE: {"many": many_more}})
    with shop.watching(), ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(keep_queueing)
        try:
            until(lambda: len(shop.arrived) > 5)
            saga = replace(shop, world=world).roll_back()
        finally:
            stop.set()
            feeding.result()
        assert saga.state is SagaState.COMPLETED, saga.why
        until(lambda: {*queued} <= {*shop.arrived})
    moments = {step.name: step for step in shop.world.journal.steps(saga.id)}
    held, freed = moments["effects.hold"].proved_at, moments["effects.resume"].intent_at
    assert held and freed
    # The journal's clock counts milliseconds.
    assert [key for key, at in shop.inbox.arrived if held + 0.002 < at < freed] == []
    assert sorted(shop.arrived) == sorted(queued), "each once"


def test_the_hold_is_proved_once_whoever_had_claimed_has_begun_or_never_will(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.queue("a")
    claimed = shop.world.journal.claim_effect("fake", {"": 60.0})
    assert claimed and claimed.claimed_at
    world, move = under_way(shop)
    steps.hold.do(world, move, "")
    finding = steps.are_held(world, move)
    assert finding.passed and finding.measured == {"under_way": 1}
    assert shop.world.journal.now() - claimed.claimed_at > BEGIN_WITHIN

    monkeypatch.setattr(dispatch, "BEGIN_WITHIN", -1.0)
    steps.let_go(world, move, "")
    shop.expire_claims()
    attempt = next_one(shop.world)
    assert attempt and "too slow" in attempt.sent.said and shop.arrived == []


def test_what_is_on_its_way_is_waited_for_and_then_undone(shop: Shop) -> None:
    shop.undoable("a")
    shop.inbox.hanging.add("fake/a")

    def let_it_arrive(_world: World, _move: Move) -> Finding:
        assert shop.states() == {"a": "sending"}
        threading.Timer(0.2, shop.inbox.hang.set).start()
        return passed("")

    with shop.watching():
        until(lambda: shop.arrived)
        world = replace(shop.world, own_gates={Phase.PROVE: {"gate": let_it_arrive}})
        saga = replace(shop, world=world).roll_back()
        assert saga.state is SagaState.COMPLETED, saga.why
        until(lambda: shop.states() == {"a": "undone", "undo/a": "sent"})
    assert shop.arrived == ["a", "undo/a"]


def test_what_cannot_be_settled_keeps_dispatch_held_and_says_so(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "_longest", lambda _world: -2.0)
    shop.undoable("a")
    assert shop.world.journal.claim_effect("fake", {"": 600.0})
    monkeypatch.setattr(steps, "_beginning", lambda _world: False)
    saga = shop.roll_back()
    assert saga.state is SagaState.NEEDS_HUMAN and shop.world.journal.verify() == []
    settle, resume = (line for line in saga.left if line.startswith("effects."))
    assert "effects.settle: Still being sent: a" in settle and "stays held" in settle
    assert "Dispatch stays held" in resume and f"--saga {saga.id}" in resume
    held = shop.world.journal.effects_held("fake")
    assert held and held.saga == saga.id
    shop.queue("b")
    refused = shop.invoke("--dispatch").exception
    assert isinstance(refused, Held) and saga.id in refused.message
    assert f"Saga {saga.id} holds" in shop.invoke().stdout
    assert f"by saga {saga.id}" in shop.invoke(command="status").stdout

    shop.expire_claims()
    (ended,) = finish(shop.world, by="a person", saga=saga.id)
    assert ended.state is SagaState.COMPLETED, ended.left
    assert shop.states() == {"a": "cancelled", "b": "queued", "undo/a": "queued"}
    shop.dispatch()
    assert shop.arrived == ["undo/a", "b"], "it may have arrived: undone, never sent"


@pytest.mark.parametrize(
    "point",
    [
        f"effects.{step}/{when}"
        for step in ("hold", "settle", "resume")
        for when in ("do/intent-written", "do/effect-done", "do/outcome-written")
    ],
)
def test_wherever_the_saga_dies_effects_are_settled_once_and_go_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    shop.undoable("a")
    shop.dispatch()
    shop.queue("b")
    monkeypatch.setattr(engine, "reach", dies_at(point))
    with pytest.raises(Died):
        shop.roll_back()
    shop.sql("UPDATE sagas SET lease_until = 1 WHERE state = 'open'")
    (saga,) = finish(shop.world, by="tester")
    shop.dispatch()
    if saga.state is SagaState.TAKEN_BACK:
        assert point.startswith("effects.hold") and shop.states() == {"a": "sent", "b": "sent"}
    else:
        assert saga.state is SagaState.COMPLETED, saga.left
        assert shop.states() == {"a": "undone", "b": "cancelled", "undo/a": "sent"}
        assert shop.arrived == ["a", "undo/a"]
    assert shop.world.journal.effects_held("fake") is None and shop.world.journal.verify() == []


def test_settling_twice_is_settling_once(shop: Shop) -> None:
    shop.undoable("a")
    shop.dispatch()
    shop.queue("b")
    saga = shop.roll_back()
    before = shop.sql("SELECT * FROM effects")
    entries = shop.world.journal.audit("fake", limit=1)[0].n
    shop.sql(f"UPDATE sagas SET state = 'open' WHERE id = '{saga.id}'")
    ((holder, epoch),) = shop.sql(f"SELECT holder, lease_epoch FROM sagas WHERE id = '{saga.id}'")
    mine = Lease(saga.id, "fake", holder, epoch)
    shop.world.journal.settle_effects(mine, shop.bad.id, "again")
    assert shop.sql("SELECT * FROM effects") == before
    assert shop.world.journal.audit("fake", limit=1)[0].n == entries


def test_what_a_release_set_off_that_was_not_proved_is_cancelled(shop: Shop) -> None:
    shop.queue("before", release=shop.good.id)
    shop.queue("live")

    def queue_then_fail(_world: World, _move: Move) -> Finding:
        shop.queue("unproved")
        return failed("no good")

    world = replace(shop.world, own_gates={Phase.PROVE: {"gate": queue_then_fail}})
    saga = replace(shop, world=world).roll_back()
    assert saga.state is SagaState.TAKEN_BACK, saga.why
    assert shop.states() == {"before": "queued", "live": "queued", "unproved": "cancelled"}
    shop.dispatch()
    assert shop.arrived == ["before", "live"] and shop.world.journal.verify() == []
    shop.world.journal.requeue_effect("fake", "unproved", by="ada", reason="it was right")
    shop.dispatch()
    assert shop.arrived[-1] == "unproved" and shop.world.journal.verify() == []


def test_a_promotion_holds_them_too_and_cancels_nothing(shop: Shop) -> None:
    shop.queue("a")
    shop.roll_back()
    assert shop.states() == {"a": "cancelled"}
    shop.queue("b")
    shop.world.journal.lift_quarantine("fake", [shop.bad.id], by="ada", reason="it was not it")
    held: list[str] = []

    def look(world: World, _move: Move) -> Finding:
        hold = world.journal.effects_held("fake")
        held.append(hold.saga if hold else "")
        return passed("")

    world = replace(shop.world, own_gates={Phase.PROVE: {"gate": look}})
    saga = replace(shop, world=world).promote(shop.bad)
    assert saga.state is SagaState.COMPLETED, saga.why
    assert held == [saga.id] and shop.states() == {"a": "cancelled", "b": "queued"}
    shop.dispatch()
    assert shop.arrived == ["b"]


def test_dispatch_stays_held_where_the_route_is_not_back(shop: Shop) -> None:
    world, move = under_way(shop)
    steps.hold.do(world, move, "")
    route.switch.do(world, move, route.switch.remember(world, move))
    with pytest.raises(UndoConflict, match="stays held"):
        steps.let_go(world, move, "")
    assert shop.world.journal.effects_held("fake")


def test_nothing_of_a_quarantined_release_begins_to_be_sent(shop: Shop) -> None:
    """Also where nothing was settled."""
    shop.queue("a")
    shop.queue("b", release=shop.good.id)
    ((saga,),) = shop.sql("SELECT id FROM sagas LIMIT 1")
    shop.sql(f"INSERT INTO quarantine VALUES ('fake', '{shop.bad.id}', 'x', 'y', '{saga}', 1)")
    shop.dispatch()
    assert shop.arrived == ["b"]
    with pytest.raises(Quarantined):
        shop.queue("c")


@pytest.mark.parametrize(
    "change",
    [
        'UPDATE effects SET payload = \'{"to":"me"}\'',
        "UPDATE effects SET state = 'sent'",
        "UPDATE effects SET release = (SELECT max(id) FROM releases WHERE id <> release)",
        "UPDATE effects SET saga = 'abc'",
        "DELETE FROM effects",
        "INSERT INTO effect_holds SELECT system, id, 1 FROM sagas LIMIT 1",
    ],
)
def test_whoever_changes_the_outbox_by_hand_is_found_out(shop: Shop, change: str) -> None:
    shop.undoable("a")
    assert shop.world.journal.verify() == []
    shop.sql(change)
    assert len(shop.world.journal.verify()) == 1


class Died(BaseException):
    """The process is gone."""


def dies_at(point: str) -> Callable[[str], None]:
    deaths = [point]

    def reach(passed: str) -> None:
        if passed in deaths:
            deaths.clear()
            raise Died

    return reach


def under_way(shop: Shop) -> tuple[World, Move]:
    """A rollback that has only been opened, and the world that its steps are given."""
    order = Order(Level.SYSTEM, by="tester")
    drafted = plan(shop.world, order)
    saga, lease = shop.world.journal.open_saga(drafted.plan, by="tester", reason="")
    return replace(shop.world, lease=lease), drafted.move(saga.id, order)
