"""Stages of a pipeline that misbehave while features are made again: nothing is half made or left.

What still runs is read from /proc.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebbtide.adapters.dvc.aside import reproduced
from ebbtide.adapters.git.repository import Repository
from ebbtide.adapters.process.guarded import run_guarded
from ebbtide.core.errors import (
    EbbtideError,
    GateNotPassed,
    Refused,
)
from tests.integration.features_site import (  # noqa: F401 - fixtures
    BUILD,
    EXTRACT,
    PIPELINE,
    WAIT,
    Site,
    commit,
    params,
    silent,
    site,
    template,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

# DVC 3.67 still uses what pygtrie is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")

AGAIN = "\nimport pathlib; pathlib.Path('features').mkdir(exist_ok=True)\n"


def is_running(mark: str) -> bool:
    """Whether a process has this word in its command line."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if mark.encode() in (folder / "cmdline").read_bytes():
                    return True
            except OSError:
                continue
    return False


def wait_until(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < until, f"waited {WAIT:.0f} s for {what}"
        time.sleep(0.02)


MISBEHAVING = {
    "failed": (BUILD + "print('the', 'rides ran out')\nsys.exit(3)\n", "the rides ran out"),
    "empty": (AGAIN, "made no features"),
    "linked": (BUILD.replace('pathlib.Path("features").mkdir()', """
import os
pathlib.Path(os.environ["TABLES"], "out").mkdir()
os.symlink(os.environ["TABLES"] + "/out", "features")
"""), "leads out"),
    "outside": (BUILD + """
import os
user = pathlib.Path(os.environ["TABLES"], "../large")
(user / "words.md").write_text("other words")
(user / "pricing/features/history.parquet").unlink()
(user / "pricing/features/history.parquet").write_bytes(b"other")
""", r"was changed while .*features/history\.parquet, .*words\.md"),
}  # fmt: skip


@pytest.mark.parametrize("how", MISBEHAVING)
def test_a_stage_that_misbehaves_makes_nothing(site: Site, how: str) -> None:
    code, says = MISBEHAVING[how]
    bad = commit(site.repository, build=code)
    kept = site.features().pin("demand", site.two).digest
    with pytest.raises(GateNotPassed, match=says):
        site.make(bad)
    assert [path.name for path in (site.state / "releases").iterdir()] == [kept]
    assert site.left() == []


def test_a_stage_that_hangs_is_ended_with_all_that_it_started(site: Site) -> None:
    mark = f"hang-{os.getpid()}-{time.time_ns()}"
    code = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", "{mark}"],
                 start_new_session=True)
time.sleep(1000)
"""
    bad = commit(site.repository, build=code)
    with pytest.raises(GateNotPassed, match="did not end within 3 s"):
        site.make(bad, features=site.features(within=3.0))
    assert not is_running(mark)
    assert site.left() == []


@pytest.mark.parametrize("stays", [True, False])
def test_what_a_command_leaves_running_is_ended(tmp_path: Path, stays: bool) -> None:
    mark, told = f"left-{os.getpid()}-{time.time_ns()}", list[str]()
    sleep = f"{sys.executable} -c 'import time; time.sleep(1000)' {mark}"
    command = f"printf 'one\\rtwo\\n'; setsid {sleep} & {sleep if stays else 'exit 3'}"
    ended = run_guarded(
        ["sh", "-c", command], cwd=tmp_path, env=os.environ, within=1.0, tell=told.append
    )
    assert (ended.in_time, ended.last) == (not stays, ("two",))
    assert told == ["two"] and (stays or ended.code == 3)
    assert not is_running(mark)


OWNER = """
import sys
from pathlib import Path
from ebbtide.adapters.dvc.aside import reproduced
from ebbtide.adapters.git.repository import Repository
folder, commit, state, tables = sys.argv[1:]
with reproduced(Repository(Path(folder)), commit, stages=["build"], params={},
                environment={"TABLES": tables}, state=Path(state), tell=print):
    pass
"""


def test_no_stage_survives_the_kill_of_its_owner(site: Site) -> None:
    mark = f"stage-{os.getpid()}-{time.time_ns()}"
    code = f"""
import os, pathlib, sys, time
if {mark!r} not in sys.argv:
    os.execv(sys.executable, [sys.executable, *sys.argv, {mark!r}])
time.sleep(1000)
"""
    bad = commit(site.repository, build=code)
    owner = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", OWNER, str(site.repository), bad, str(site.state),
         str(site.home / "tables")],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(lambda: is_running(mark) or owner.poll() is not None, "the stage")
        assert owner.poll() is None
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    wait_until(lambda: not is_running(mark), "the stage's end")
    assert len(site.left()) == 1, "a killed process cannot tidy up"
    wait_until(lambda: not _is_held(site.state / "aside" / site.left()[0]), "the guard's end")
    site.make(site.one, "1")
    assert site.left() == [], "the next run does"


def _is_held(folder: Path) -> bool:
    import fcntl

    mark = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(mark)
    return False


@pytest.mark.parametrize("out", ["features", "linked/features"])
def test_an_output_that_is_a_link_out_of_the_repository_is_refused(site: Site, out: str) -> None:
    elsewhere = site.home / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(site.repository / "features")
    (site.repository / ".gitignore").write_text("/rides.parquet\n")
    (site.repository / Path(out).parts[0]).symlink_to(elsewhere)
    bad = commit(site.repository, pipeline=PIPELINE.replace("outs: [features]", f"outs: [{out}]"))
    with (
        pytest.raises(Refused, match="leads out of its repository"),
        reproduced(
            Repository(site.repository), bad, stages=["build"], params={}, environment={},
            state=site.state, tell=silent,
        ),
    ):  # fmt: skip
        pytest.fail("it ran")
    assert list(elsewhere.iterdir()) == [] and site.left() == []


UNTOLD = {
    "frozen": (
        {"pipeline": PIPELINE.replace("extract:\n", "extract:\n    frozen: true\n", 1)},
        "is frozen",
    ),
    "of its own mind": (
        {"extract": EXTRACT + f"pathlib.Path('params.yaml').write_text({params(2.0, 1)!r})\n"},
        r"`extract` used params\.yaml:tables\.rides=1, not 0",
    ),
}


@pytest.mark.parametrize("how", UNTOLD)
def test_a_stage_that_reads_another_version_than_it_was_told_is_found_out(
    site: Site, how: str
) -> None:
    files, says = UNTOLD[how]
    with pytest.raises(GateNotPassed, match=says):
        site.make(commit(site.repository, **files))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for a checkout, and not for features."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_nothing_half_made(site: Site, small_disk: Path) -> None:
    large = BUILD + "pathlib.Path('features/large').write_bytes(os.urandom(4_000_000))\n"
    bad = commit(site.repository, build="import os\n" + large)
    layer = site.features(state=small_disk / "state")
    with pytest.raises(EbbtideError, match=r"disk.* is full"):
        site.make(bad, features=layer)
    assert list((small_disk / "state" / "aside").iterdir()) == []
    releases = small_disk / "state" / "releases"
    assert not releases.exists() or list(releases.iterdir()) == []
