"""Manifests in real bare repositories, and a cluster that a small HTTP server stands for."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ebbtide.adapters.git.clone import Clone
from ebbtide.adapters.git.gitops import Gitops
from ebbtide.adapters.git.repository import GitError
from ebbtide.core.errors import (
    BadConfiguration,
    Conflict,
    EbbtideError,
    FloatingReference,
    GateNotPassed,
    NotRestorable,
    Refused,
    Unknown,
    Unreachable,
)
from ebbtide.core.release import Pin, Release
from ebbtide.testing import layer_contract
from tests.integration.forge import VALUES, Cluster, Forge


def release(version: str) -> Release:
    return Release("shop", {"model": (Pin("demand", version * 64, {"version": version}),)})


def pinned(layer: Gitops, version: str) -> Pin:
    pin = layer.derive(layer.pin("cluster"), release(version))
    layer.prepare(pin)
    return pin


@pytest.fixture
def forge(tmp_path: Path) -> Forge:
    return Forge(tmp_path)


def test_the_adapter_keeps_the_contract(forge: Forge) -> None:
    first = forge.tip()
    second = forge.commit({"apps/values.yaml": VALUES.replace("v0", "v1")})
    layer_contract(forge.gitops(), "cluster", (first, second), floating=("main", "HEAD", "-f"))


def test_the_release_writes_its_versions_and_goes_back_by_new_commits(forge: Forge) -> None:
    layer, before = forge.gitops(), forge.log()
    one, two = pinned(layer, "1"), pinned(layer, "2")
    shown = layer.live("cluster")
    assert forge.log() == before, "pinning has pushed"
    for to, was in ((one, shown), (two, one), (one, two)):
        layer.move("cluster", to, only_from=(was,), note="s-1")
        layer.move("cluster", to, only_from=(was,), note="s-1")
    assert forge.version() == "1"
    assert forge.text() == VALUES.strip().replace("'0'", '"1"')
    assert forge.log()[3:] == before and len(forge.log()) == len(before) + 3
    assert "s-1" in forge.run("log", "-1", "--format=%B", "main", folder=forge.bare)
    assert forge.text("README") == "x"


def test_the_same_content_is_the_same_pin_whoever_asks_and_when(forge: Forge) -> None:
    layer = forge.gitops()
    one = pinned(layer, "1")
    layer.move("cluster", one, only_from=(layer.live("cluster"),), note="s")
    forge.commit({"README": "later\n"})
    elsewhere = forge.gitops("another-host")
    assert layer.pin("cluster") == one == elsewhere.pin("cluster") == elsewhere.live("cluster")
    assert elsewhere.derive(elsewhere.pin("cluster"), release("1")) == one
    two = elsewhere.derive(elsewhere.pin("cluster"), release("2"))
    assert elsewhere.derive(two, release("1")) == one


def test_a_lost_state_folder_is_made_again_from_the_repository(forge: Forge) -> None:
    one = pinned(forge.gitops(), "1")
    anew = forge.gitops("anew")
    assert anew.problems(one) == []
    anew.prepare(one)
    assert (anew.path(one) / "apps/values.yaml").read_text() == VALUES.replace("'0'", '"1"')
    anew.move("cluster", one, only_from=(anew.live("cluster"),), note="s")
    assert forge.version() == "1"


def test_what_the_remote_has_lost_is_still_here(forge: Forge) -> None:
    layer = forge.gitops()
    second = forge.commit({"apps/values.yaml": VALUES.replace("v0", "v1")})
    pin = layer.pin("cluster", second)
    first = forge.log()[-1]
    forge.run("update-ref", "refs/heads/main", first, folder=forge.bare)
    forge.run("gc", "-q", "--prune=now", folder=forge.bare)
    assert layer.problems(pin) == []
    layer.move("cluster", pin, only_from=(layer.live("cluster"),), note="s")
    assert "v1" in forge.text()
    assert forge.log()[-1] == first
    stranger = forge.gitops("stranger")
    gone = Pin("cluster", pin.digest, {**pin.at, "commit": "f" * 40})
    assert "is gone" in stranger.problems(gone)[0]
    with pytest.raises(NotRestorable, match="is gone"):
        stranger.prepare(gone)


def test_a_commit_of_somebody_else_to_the_manifests_is_a_conflict_and_stays(forge: Forge) -> None:
    layer = forge.gitops()
    one, two, shown = pinned(layer, "1"), pinned(layer, "2"), layer.live("cluster")
    layer.move("cluster", one, only_from=(shown,), note="s")
    theirs = forge.commit({"apps/values.yaml": VALUES.replace("'0'", "'99'")})
    for to in (two, shown, None):
        with pytest.raises(Conflict, match="other manifests"):
            layer.move("cluster", to, only_from=(one,), note="s")
    assert forge.tip() == theirs and forge.version() == "99"


def during_push(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Somebody else acts between ebbtide's look and its push; once."""
    push, todo = Clone.push, [act]

    def late(self: Clone, commit: str, *, only_from: str) -> None:
        if todo:
            todo.pop()()
        push(self, commit, only_from=only_from)

    monkeypatch.setattr(Clone, "push", late)


def test_a_push_that_is_faster_and_changes_the_manifests_wins(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = forge.gitops()
    one, shown = pinned(layer, "1"), layer.live("cluster")
    during_push(
        monkeypatch, lambda: forge.commit({"apps/values.yaml": VALUES.replace("'0'", "'99'")})
    )
    with pytest.raises(Conflict):
        layer.move("cluster", one, only_from=(shown,), note="s")
    assert forge.version() == "99" and len(forge.log()) == 2


def test_a_push_that_is_faster_in_other_files_is_built_upon(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = forge.gitops()
    one, shown = pinned(layer, "1"), layer.live("cluster")
    during_push(monkeypatch, lambda: forge.commit({"README": "theirs\n"}))
    layer.move("cluster", one, only_from=(shown,), note="s")
    assert forge.version() == "1" and forge.text("README") == "theirs"
    assert len(forge.log()) == 3


def test_a_branch_that_was_forced_back_before_the_push_stays_back(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, first = forge.gitops(), forge.tip()
    secret = forge.commit({"apps/values.yaml": VALUES.replace("v0", "v1"), "SECRET": "leaked\n"})
    one, shown = pinned(layer, "1"), layer.live("cluster")
    during_push(
        monkeypatch, lambda: forge.run("update-ref", "refs/heads/main", first, folder=forge.bare)
    )
    with pytest.raises(Conflict, match="other manifests"):
        layer.move("cluster", one, only_from=(shown,), note="s")
    assert forge.tip() == first and secret not in forge.log()


def test_a_branch_forced_back_to_the_same_manifests_is_built_upon_there(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, first = forge.gitops(), forge.tip()
    secret = forge.commit({"SECRET": "leaked\n"})
    one, shown = pinned(layer, "1"), layer.live("cluster")
    during_push(
        monkeypatch, lambda: forge.run("update-ref", "refs/heads/main", first, folder=forge.bare)
    )
    layer.move("cluster", one, only_from=(shown,), note="s")
    assert forge.version() == "1" and secret not in forge.log()
    assert forge.log()[1:] == [first]


def test_a_push_never_rewrites_what_the_branch_has(forge: Forge) -> None:
    clone = Clone(forge.root / "clone.git", str(forge.bare), "main")
    first = clone.fetch()
    second = forge.commit({"README": "theirs\n"})
    clone.fetch()
    beside = clone.commit_files(first, {"README": b"mine\n"}, "beside")
    with pytest.raises(GitError):
        clone.push(beside, only_from=second)
    assert forge.tip() == second


def test_a_push_whose_answer_is_lost_is_read_back(
    forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, push = forge.gitops(), Clone.push

    def deaf(self: Clone, commit: str, *, only_from: str) -> None:
        push(self, commit, only_from=only_from)
        raise Unreachable("the connection broke")

    one, shown = pinned(layer, "1"), layer.live("cluster")
    monkeypatch.setattr(Clone, "push", deaf)
    layer.move("cluster", one, only_from=(shown,), note="s")
    assert forge.version() == "1"


def test_a_repository_that_takes_no_push_is_told(forge: Forge) -> None:
    layer = forge.gitops()
    one, shown, tip = pinned(layer, "1"), layer.live("cluster"), forge.tip()
    hook = forge.bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho protected branch >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Refused, match="protected branch"):
        layer.move("cluster", one, only_from=(shown,), note="s")
    assert forge.tip() == tip


def test_a_repository_that_is_away_is_unreachable(forge: Forge) -> None:
    layer = forge.gitops()
    pin = pinned(layer, "1")
    forge.bare.rename(forge.root / "moved")
    for ask in (
        lambda: layer.live("cluster"),
        lambda: layer.problems(pin),
        lambda: layer.pin("cluster"),
        lambda: layer.move("cluster", pin, only_from=(None,), note="s"),
    ):
        with pytest.raises(Unreachable):
            ask()


@pytest.mark.parametrize(
    "repository", ["--upload-pack=touch pwned", "ext::sh -c x", "git://h/x", ""]
)
def test_a_repository_that_git_could_take_for_a_command_is_refused(
    forge: Forge, repository: str
) -> None:
    with pytest.raises(BadConfiguration):
        forge.gitops(repository=repository)


@pytest.mark.parametrize("path", ["../x.yaml", "/etc/x", "a/../b", ".git/config", "a//b", "./a"])
def test_a_file_outside_the_repository_is_refused(forge: Forge, path: str) -> None:
    with pytest.raises(BadConfiguration, match="no path of a file"):
        forge.gitops(files={path: {}})


@pytest.mark.parametrize("ask", ["main", "-f", "HEAD", "--all", "v1", "main~1"])
def test_a_floating_reference_is_refused(forge: Forge, ask: str) -> None:
    with pytest.raises(FloatingReference):
        forge.gitops().pin("cluster", ask)


def test_what_is_not_there_is_named(forge: Forge) -> None:
    with pytest.raises(Unknown, match="no branch `other`"):
        forge.gitops(branch="other").pin("cluster")
    with pytest.raises(Unknown, match=r"apps/no\.yaml"):
        forge.gitops(files={"apps/no.yaml": {}}).pin("cluster")
    with pytest.raises(Unknown, match="cluster"):
        forge.gitops().pin("other")
    assert forge.gitops(files={"apps/no.yaml": {}}).live("cluster") is None


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("model/other", "nothing that the release pins: model/demand"),
        ("model", "nothing that the release pins"),
        ("model/demand@commit", "has no `commit`"),
    ],
)
def test_a_version_that_the_release_has_not_is_named(forge: Forge, source: str, says: str) -> None:
    layer = forge.gitops(files={"apps/values.yaml": {"model.version": source}})
    with pytest.raises(BadConfiguration, match=says):
        layer.derive(layer.pin("cluster"), release("1"))


def test_a_pin_of_other_files_is_not_restorable(forge: Forge) -> None:
    pin = pinned(forge.gitops(), "1")
    fewer = forge.gitops(files={"apps/values.yaml": {}})
    assert "apps/extra.yaml" in fewer.problems(pin)[0]
    tip = forge.tip()
    with pytest.raises(NotRestorable):
        fewer.move("cluster", pin, only_from=(fewer.live("cluster"),), note="s")
    assert forge.tip() == tip


def test_a_link_in_the_place_of_a_manifest_is_refused(forge: Forge) -> None:
    (forge.checkout / "apps/extra.yaml").unlink()
    (forge.checkout / "apps/extra.yaml").symlink_to("/etc/passwd")
    forge.run("commit", "-qam", "link", folder=forge.checkout)
    forge.run("push", "-q", "origin", "HEAD:main", folder=forge.checkout)
    with pytest.raises(Refused, match="no file"):
        forge.gitops().pin("cluster")


def test_a_forged_note_in_a_message_is_not_believed(forge: Forge) -> None:
    layer = forge.gitops()
    pin = layer.pin("cluster")
    forged = json.dumps(Pin("cluster", "0" * 64, {**pin.at, "commit": "-f"}).to_json())
    (forge.checkout / "apps/extra.yaml").write_text("a: 2\n")
    forge.run("commit", "-qam", f"x\n\nEbbtide-Pin: {forged}", folder=forge.checkout)
    forge.run("push", "-q", "origin", "HEAD:main", folder=forge.checkout)
    found = layer.pin("cluster")
    assert found.at["commit"] == forge.tip() and found.digest != "0" * 64


@pytest.fixture
def cluster(forge: Forge) -> Iterator[Cluster]:
    made = Cluster(forge)
    yield made
    made.close()


@pytest.mark.parametrize(
    "reads", [{}, {"reports": "", "pattern": r'"model": "([^"]+)"'}], ids=["json", "pattern"]
)
def test_a_move_ends_when_the_cluster_reports_the_version(
    forge: Forge, cluster: Cluster, reads: dict[str, str]
) -> None:
    layer = forge.gitops(health=cluster.health(**reads))
    one = pinned(layer, "1")
    layer.move("cluster", one, only_from=(layer.live("cluster"),), note="s")
    assert cluster.asked >= 1
    layer.move("cluster", None, only_from=(one,), note="s")
    assert layer.live("cluster") is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "reports 0, not 1"),
        ({"reports": "app.other"}, "reports no version"),
        ({"reports": "", "pattern": "(nothing)"}, "reports no version"),
        ({"url": "http://127.0.0.1:9/"}, "does not answer"),
        ({"key": "model.other"}, "has no value at `model.other`"),
    ],
)
def test_a_cluster_that_does_not_arrive_fails_the_move(
    forge: Forge, cluster: Cluster, changes: dict[str, Any], says: str
) -> None:
    cluster.stuck = "0"
    layer = forge.gitops(health=cluster.health(within=0.5, **changes))
    one = pinned(layer, "1")
    with pytest.raises(GateNotPassed, match=says) as caught:
        layer.move("cluster", one, only_from=(layer.live("cluster"),), note="s")
    assert isinstance(caught.value, EbbtideError)
