"""Folders and links: whole or not at all, whatever dies."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ebbtide.adapters.disk.files import (
    publish_tree,
    publish_verified,
    replace_link,
    stray_links,
    verified,
)
from ebbtide.core.crashpoints import VARIABLE
from ebbtide.core.digests import tree_digest
from ebbtide.core.errors import Conflict, NotRestorable, Refused


def two_files(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "a").write_text("a")
    (folder / "inner" / "b").write_text("b")


def test_a_folder_gets_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "store" / "x"

    def build(folder: Path) -> None:
        two_files(folder)
        assert not final.exists()

    publish_tree(build, final)
    assert (final / "inner" / "b").read_text() == "b"
    assert not os.stat(final / "a").st_mode & 0o222
    assert os.listdir(final.parent) == ["x"]


def test_what_is_there_already_is_not_built_again(tmp_path: Path) -> None:
    final = tmp_path / "x"
    publish_tree(two_files, final)
    publish_tree(lambda folder: pytest.fail("built again"), final)


def test_a_failed_build_leaves_nothing_and_touches_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "neighbour").write_text("mine")

    def build(folder: Path) -> None:
        two_files(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish_tree(build, tmp_path / "x")
    assert os.listdir(tmp_path) == ["neighbour"]


def test_two_that_build_the_same_both_succeed(tmp_path: Path) -> None:
    final = tmp_path / "x"

    def build(folder: Path) -> None:
        two_files(folder)
        publish_tree(two_files, final)  # another one is faster

    publish_tree(build, final)
    assert os.listdir(tmp_path) == ["x"]
    assert (final / "a").read_text() == "a"


def killed(code: str, point: str) -> None:
    """Run code in a process of its own that dies by SIGKILL at a crash point."""
    head = "from pathlib import Path\nfrom ebbtide.adapters.disk.files import *\n"
    ended = subprocess.run(
        [sys.executable, "-c", head + code],
        env={**os.environ, VARIABLE: point},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def test_a_killed_build_shows_no_half_folder_and_is_cleared_by_the_next(tmp_path: Path) -> None:
    final = tmp_path / "x"
    code = f"publish_tree(lambda to: (to / 'a').write_text('half'), Path({str(final)!r}))"
    killed(code, "files.publish_tree/built")
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".x.")
    publish_tree(two_files, final)
    assert os.listdir(tmp_path) == ["x"]
    assert (final / "a").read_text() == "a"


def test_the_leftover_of_a_build_that_still_runs_is_not_cleared(tmp_path: Path) -> None:
    final = tmp_path / "x"
    seen: list[bool] = []

    def slow(folder: Path) -> None:
        two_files(folder)
        publish_tree(two_files, final)
        seen.append((folder / "a").is_file())

    publish_tree(slow, final)
    assert seen == [True]


def test_a_content_of_another_digest_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(NotRestorable):
        publish_verified(two_files, tmp_path, "0" * 64)
    assert os.listdir(tmp_path) == []


def test_a_kept_content_that_was_changed_is_found_out(tmp_path: Path) -> None:
    two_files(tmp_path)
    digest = tree_digest(tmp_path)
    assert verified(tmp_path, digest) == tmp_path
    (tmp_path / "a").write_text("A")
    with pytest.raises(NotRestorable, match="was changed"):
        verified(tmp_path, digest)


def test_an_empty_folder_is_no_content(tmp_path: Path) -> None:
    with pytest.raises(NotRestorable):
        publish_verified(lambda folder: None, tmp_path, "0" * 64)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotRestorable):
        verified(tmp_path / "empty", "0" * 64)


def test_a_link_goes_there_and_back_and_there_and_back(tmp_path: Path) -> None:
    old, new, link = tmp_path / "old", tmp_path / "new", tmp_path / "at" / "link"
    old.mkdir()
    new.mkdir()
    replace_link(link, old, only_from=[None])
    for _ in range(2):
        replace_link(link, new, only_from=[old])
        assert os.path.realpath(link) == str(new)
        replace_link(link, new, only_from=[old])
        replace_link(link, old, only_from=[new, old])
        assert os.path.realpath(link) == str(old)
    replace_link(link, None, only_from=[old])
    replace_link(link, None, only_from=[old])
    assert os.listdir(link.parent) == []


def test_a_link_that_somebody_else_has_moved_is_left(tmp_path: Path) -> None:
    old, new, theirs, link = (tmp_path / name for name in ("old", "new", "theirs", "link"))
    for folder in (old, new, theirs):
        folder.mkdir()
    link.symlink_to(theirs)
    for target in (new, None):
        with pytest.raises(Conflict, match="theirs"):
            replace_link(link, target, only_from=[old])
    assert os.readlink(link) == str(theirs)


def test_a_regular_folder_in_place_of_the_link_is_never_deleted(tmp_path: Path) -> None:
    link, new = tmp_path / "link", tmp_path / "new"
    link.mkdir()
    new.mkdir()
    (link / "precious").write_text("mine")
    for target in (new, None):
        with pytest.raises(Refused, match="not a link"):
            replace_link(link, target, only_from=[None])
    assert (link / "precious").read_text() == "mine"


def test_a_kill_before_the_swap_leaves_the_old_link(tmp_path: Path) -> None:
    old, new, link = tmp_path / "old", tmp_path / "new", tmp_path / "link"
    old.mkdir()
    new.mkdir()
    link.symlink_to("old")
    code = f"old, new, link = (Path({str(tmp_path)!r}) / n for n in ('old', 'new', 'link'))\n"
    killed(code + "replace_link(link, new, only_from=[old])", "files.replace_link/made")
    assert os.readlink(link) == "old"
    replace_link(link, new, only_from=[old])
    assert os.readlink(link) == "new"
    assert sorted(os.listdir(tmp_path)) == ["link", "new", "old"]


def test_a_reader_never_finds_the_link_absent(tmp_path: Path) -> None:
    old, new, link = tmp_path / "old", tmp_path / "new", tmp_path / "link"
    for folder in (old, new):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    replace_link(link, old, only_from=[None])
    done, seen = threading.Event(), []

    def read() -> None:
        while not done.is_set():
            try:
                seen.append((link / "file").read_text())
            except OSError as fault:
                seen.append(repr(fault))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(150):
        replace_link(link, new, only_from=[old])
        replace_link(link, old, only_from=[new])
    done.set()
    reader.join()
    assert set(seen) == {"old", "new"}


def test_links_that_lead_astray_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    two_files(folder)
    (folder / "fine").symlink_to("inner/b")
    (folder / "out").symlink_to("/etc/hostname")
    (folder / "up").symlink_to("../folder")
    (folder / "folded").symlink_to("inner")
    (folder / "dangling").symlink_to("nowhere")
    assert stray_links(folder) == ["dangling", "folded", "out", "up"]
