"""Configuration pinned to git commits, with real repositories."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ebbtide.adapters.git.repository import Repository
from ebbtide.adapters.git.settings import Settings
from ebbtide.adapters.system.file import SettingsThing
from ebbtide.core.digests import tree_digest
from ebbtide.core.errors import (
    BadConfiguration,
    Conflict,
    EbbtideError,
    FloatingReference,
    NotRestorable,
    Refused,
    Unknown,
    Unreachable,
)
from tests.integration.test_files import killed

THING = SettingsThing(repository="repo", path="configs/pricing", link="live/pricing")


class Place:
    """A workspace with a repository; its git runs apart from the code under test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repository = root / "repo"
        self.folder = self.repository / "configs" / "pricing"
        self.link = root / "live" / "pricing"
        self.folder.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "core.hooksPath="]
        said = subprocess.run(
            ["git", "-C", str(self.repository), *who, *arguments], capture_output=True, check=True
        )
        return said.stdout.decode().strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            (self.folder / f"{name}.yaml").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-qm", "change")
        return self.git("rev-parse", "HEAD")

    def settings(self, thing: SettingsThing = THING) -> Settings:
        def at(path: str) -> Path:
            return (self.root / path).resolve()

        return Settings(self.root / "state", {"pricing": thing}, "config", at)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.commit(surge="cap: 2\n", other="x: 1\n")
    return made


def test_a_commit_is_pinned_in_full_with_the_digest_of_its_folder(place: Place) -> None:
    settings, commit = place.settings(), place.git("rev-parse", "HEAD")
    digest = tree_digest(place.folder)
    for ask in ("", commit, commit[:7], commit.upper()):
        pin = settings.pin("pricing", ask)
        assert (pin.at["commit"], pin.digest) == (commit, digest)
    assert settings.problems(pin) == []
    assert (settings.path(pin) / "surge.yaml").read_text() == "cap: 2\n"


def test_an_older_commit_is_pinned_without_touching_the_checkout(place: Place) -> None:
    old = place.git("rev-parse", "HEAD")
    place.commit(surge="cap: 9\n")
    (place.folder / "surge.yaml").write_text("cap: being edited\n")
    settings = place.settings()
    pin = settings.pin("pricing", old)
    assert (settings.path(pin) / "surge.yaml").read_text() == "cap: 2\n"
    assert (place.folder / "surge.yaml").read_text() == "cap: being edited\n"
    assert place.git("status", "--porcelain") == "M configs/pricing/surge.yaml"


@pytest.mark.parametrize("ask", ["main", "HEAD", "@", "v1", "HEAD~0", "deadbee", "feature/x"])
def test_what_can_move_is_refused_and_names_todays_commit(place: Place, ask: str) -> None:
    commit = place.git("rev-parse", "HEAD")
    place.git("tag", "-a", "v1", "-m", "v1")
    place.git("branch", "deadbee")
    place.git("branch", "feature/x")
    with pytest.raises(FloatingReference) as refusal:
        place.settings().pin("pricing", ask)
    assert commit in refusal.value.remedy


@pytest.mark.parametrize(
    "ask", ["--upload-pack=touch x", "-h", "a b", "main\n", ":/x", "$(x)", "a..b", "HEAD@{1}"]
)
def test_odd_references_never_reach_git(
    place: Place, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    run = Repository.run

    def spy(self: Repository, *arguments: str, feed: bytes | None = None) -> bytes:
        seen.extend(arguments)
        return run(self, *arguments, feed=feed)

    monkeypatch.setattr(Repository, "run", spy)
    with pytest.raises(FloatingReference):
        place.settings().pin("pricing", ask)
    assert not [argument for argument in seen if ask in argument]


def test_a_commit_that_is_not_there_is_unknown(place: Place) -> None:
    with pytest.raises(Unknown):
        place.settings().pin("pricing", "0" * 40)
    with pytest.raises(Unknown):
        place.settings().pin("nobody")


def test_uncommitted_changes_are_refused_by_name(place: Place) -> None:
    (place.folder / "surge.yaml").write_text("cap: 99\n")
    (place.folder / "näw.yaml").write_text("x: 1\n")
    (place.repository / "elsewhere").write_text("no matter")
    with pytest.raises(Refused) as refusal:
        place.settings().pin("pricing")
    assert "surge.yaml" in str(refusal.value)
    assert "näw.yaml" in str(refusal.value)
    assert "elsewhere" not in str(refusal.value)
    assert "commit" in refusal.value.remedy.lower()


def test_do_undo_do_undo_is_the_same_world(place: Place) -> None:
    settings = place.settings()
    first = settings.pin("pricing")
    place.commit(surge="cap: 9\n")
    second = settings.pin("pricing")
    assert settings.live("pricing") is None
    settings.move("pricing", first, only_from=[None], note="s1")
    for _ in range(2):
        before = settings.live("pricing")
        assert before is not None
        settings.move("pricing", second, only_from=[before], note="s2")
        assert (place.link / "surge.yaml").read_text() == "cap: 9\n"
        settings.move("pricing", second, only_from=[before], note="s2")
        settings.move("pricing", before, only_from=[second, before], note="s2/undo")
        assert (place.link / "surge.yaml").read_text() == "cap: 2\n"
        assert settings.live("pricing") == before
    settings.move("pricing", None, only_from=[first], note="s3")
    assert not os.path.lexists(place.link)


def test_a_link_that_somebody_else_set_is_a_conflict_and_can_be_returned_to(place: Place) -> None:
    settings, theirs = place.settings(), place.root / "theirs"
    pin = settings.pin("pricing")
    theirs.mkdir()
    (theirs / "surge.yaml").write_text("cap: theirs\n")
    place.link.parent.mkdir()
    place.link.symlink_to(theirs)
    for to in (pin, None):
        with pytest.raises(Conflict):
            settings.move("pricing", to, only_from=[None], note="s")
    was = settings.live("pricing")
    assert was is not None
    assert was.digest == tree_digest(theirs)
    assert was.at["target"] == str(theirs)
    settings.move("pricing", pin, only_from=[was], note="s")
    assert settings.live("pricing") == type(pin)("pricing", pin.digest, {"path": THING.path})
    settings.move("pricing", was, only_from=[pin], note="s")
    assert os.path.realpath(place.link) == str(theirs)


def test_a_link_that_dangles_shows_an_empty_digest(place: Place) -> None:
    settings = place.settings()
    place.link.parent.mkdir()
    place.link.symlink_to("gone")
    was = settings.live("pricing")
    assert was is not None
    assert was.digest == ""
    settings.move("pricing", settings.pin("pricing"), only_from=[was], note="s")


def test_a_regular_folder_where_the_link_belongs_is_a_problem_and_never_deleted(
    place: Place,
) -> None:
    settings = place.settings()
    pin = settings.pin("pricing")
    place.link.mkdir(parents=True)
    (place.link / "precious").write_text("mine")
    assert "not a link" in " ".join(settings.problems(pin))
    with pytest.raises(Refused, match="not a link"):
        settings.move("pricing", pin, only_from=[None], note="s")
    assert (place.link / "precious").read_text() == "mine"


def test_a_changed_kept_copy_is_a_problem_and_does_not_go_live(place: Place) -> None:
    settings = place.settings()
    pin = settings.pin("pricing")
    file = settings.path(pin) / "surge.yaml"
    file.chmod(0o644)
    file.write_text("cap: 1000\n")
    assert "was changed" in settings.problems(pin)[0]
    with pytest.raises(NotRestorable):
        settings.prepare(pin)
    with pytest.raises(NotRestorable):
        settings.move("pricing", pin, only_from=[None], note="s")
    assert not os.path.lexists(place.link)


def test_a_live_copy_that_was_changed_does_not_show_its_name(place: Place) -> None:
    settings = place.settings()
    pin = settings.pin("pricing")
    settings.move("pricing", pin, only_from=[None], note="s")
    (place.link / "extra.yaml").write_text("x: 1\n")
    now = settings.live("pricing")
    assert now is not None
    assert now.digest == tree_digest(place.link) != pin.digest


def test_a_lost_copy_is_made_again_from_the_commit(place: Place) -> None:
    settings = place.settings()
    pin = settings.pin("pricing")
    shutil.rmtree(settings.path(pin))
    assert settings.problems(pin) == []
    settings.prepare(pin)
    settings.prepare(pin)
    assert tree_digest(settings.path(pin)) == pin.digest


def test_a_lost_commit_matters_only_where_no_copy_is_kept(place: Place) -> None:
    settings = place.settings()
    lost = place.commit(surge="cap: 7\n")
    pin = settings.pin("pricing")
    place.git("reset", "-q", "--hard", "HEAD~1")
    place.git("reflog", "expire", "--expire=now", "--all")
    place.git("gc", "-q", "--prune=now")
    assert settings.problems(pin) == []
    shutil.rmtree(settings.path(pin))
    assert lost[:10] in settings.problems(pin)[0]
    with pytest.raises(NotRestorable):
        settings.prepare(pin)


def test_a_lost_repository_is_unreachable(place: Place) -> None:
    settings = place.settings()
    pin = settings.pin("pricing")
    shutil.rmtree(place.repository)
    assert settings.problems(pin) == []
    shutil.rmtree(settings.path(pin))
    with pytest.raises(Unreachable):
        settings.problems(pin)
    with pytest.raises(Unreachable):
        settings.pin("pricing")
    place.repository.mkdir()
    with pytest.raises(Unreachable):
        settings.pin("pricing")


def test_links_inside_the_folder_are_kept_and_count(place: Place) -> None:
    (place.folder / "same.yaml").symlink_to("surge.yaml")
    place.commit()
    settings = place.settings()
    pin = settings.pin("pricing")
    assert pin.digest == tree_digest(place.folder)
    assert os.readlink(settings.path(pin) / "same.yaml") == "surge.yaml"


@pytest.mark.parametrize("target", ["/etc/hostname", "../../outside", "../pricing", "nowhere"])
def test_links_that_lead_out_of_the_folder_are_refused(place: Place, target: str) -> None:
    (place.repository / "outside").write_text("secret")
    (place.folder / "leak.yaml").symlink_to(target)
    place.commit()
    with pytest.raises(Refused, match=r"leak\.yaml"):
        place.settings().pin("pricing")
    assert not (place.root / "state" / "settings").exists()


def test_submodules_are_refused(place: Place) -> None:
    commit = place.git("rev-parse", "HEAD")
    place.git("update-index", "--add", "--cacheinfo", f"160000,{commit},configs/pricing/sub")
    place.git("commit", "-qm", "submodule")
    with pytest.raises(Refused, match="submodule"):
        place.settings().pin("pricing", place.git("rev-parse", "HEAD"))


def test_a_tree_that_climbs_out_is_refused(place: Place) -> None:
    blob = place.git("rev-parse", "HEAD:configs/pricing/surge.yaml")
    (place.root / "tree").write_bytes(b"100644 ..\0" + bytes.fromhex(blob))
    bad = place.git("hash-object", "-t", "tree", "-w", "--literally", str(place.root / "tree"))
    for name in ("pricing", "configs"):
        (place.root / "tree").write_bytes(b"40000 " + name.encode() + b"\0" + bytes.fromhex(bad))
        bad = place.git("hash-object", "-t", "tree", "-w", "--literally", str(place.root / "tree"))
    commit = place.git("commit-tree", bad, "-m", "bad")
    with pytest.raises(EbbtideError):
        place.settings().pin("pricing", commit)


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../../b", ""])
def test_a_path_out_of_the_repository_is_bad_configuration(place: Place, path: str) -> None:
    with pytest.raises(BadConfiguration):
        place.settings(SettingsThing(repository="repo", path=path, link="l"))


def test_a_path_that_the_commit_lacks_is_unknown(place: Place) -> None:
    for path in ("configs/none", "configs/pricing/surge.yaml"):
        thing = SettingsThing(repository="repo", path=path, link="l")
        with pytest.raises(Unknown):
            place.settings(thing).pin("pricing")


def test_a_repository_may_be_named_by_a_folder_inside_it(place: Place) -> None:
    thing = SettingsThing(repository="repo/configs", path="pricing", link="live/pricing")
    assert place.settings(thing).pin("pricing").digest == tree_digest(place.folder)
    whole = SettingsThing(repository="repo/configs/pricing", path=".", link="live/pricing")
    assert place.settings(whole).pin("pricing").digest == tree_digest(place.folder)


def test_a_repository_without_a_commit_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(Unknown, match="no commit"):
        Place(tmp_path).settings().pin("pricing")


def test_nothing_that_the_repository_or_the_caller_sets_up_is_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = place.root / "trap"
    script = place.root / "run.sh"
    script.write_text(f"#!/bin/sh\ntouch {trap}\n")
    script.chmod(0o755)
    place.git("config", "core.fsmonitor", str(script))
    shutil.copy(script, place.repository / ".git" / "hooks" / "post-index-change")
    monkeypatch.setenv("GIT_DIR", str(place.root / "elsewhere"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(script))
    place.settings().pin("pricing")
    assert not trap.exists()


def test_a_killed_preparation_leaves_no_half_folder(place: Place) -> None:
    settings = place.settings()
    pin = settings.pin("pricing")
    shutil.rmtree(settings.path(pin))
    code = f"""
from pathlib import Path
from ebbtide.adapters.git.settings import Settings
from ebbtide.adapters.system.file import SettingsThing
root = Path({str(place.root)!r})
thing = SettingsThing(repository="repo", path="configs/pricing", link="live/pricing")
Settings(root / "state", {{"pricing": thing}}, "config", lambda path: root / path).pin("pricing")
"""
    killed(code, "files.publish_tree/built")
    assert not settings.path(pin).exists()
    settings.prepare(pin)
    assert os.listdir(settings.path(pin).parent) == [pin.digest]
