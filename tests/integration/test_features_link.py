"""The link that serving reads: moved forth and back, and only where nobody else has moved it."""

import shutil
from pathlib import Path

import pytest

from ebbtide.adapters.dvc.features import Features
from ebbtide.core.errors import (
    Conflict,
    NotRestorable,
    Refused,
)
from tests.integration.features_repository import (  # noqa: F401 - fixtures
    commits,
    demand,
    features,
    repository,
    template,
)

# ruff: noqa: F811 - pytest's way to ask for a fixture

# DVC 3.67 still uses what pygtrie is about to remove.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")


def test_do_undo_do_undo_leads_back_to_the_same_features(
    features: Features, commits: dict[str, str], tmp_path: Path
) -> None:
    link = tmp_path / "live" / "features"
    was, to = (
        features.pin("demand", commits["tuned"]),
        features.pin("demand", commits["first"]),
    )
    assert features.live("demand") is None
    features.move("demand", was, only_from=[None], note="s")
    for _ in range(2):
        features.move("demand", to, only_from=[features.live("demand")], note="s")
        assert demand(link) == [2.0, 4.0]
        features.move("demand", was, only_from=[to, was], note="s")
        assert demand(link) == [3.0, 6.0, 12.0]
    features.move("demand", None, only_from=[was], note="s")
    assert not link.is_symlink()
    assert features.live("demand") is None


def test_a_link_that_somebody_else_moved_is_a_conflict(
    features: Features, commits: dict[str, str], tmp_path: Path
) -> None:
    was, to = (
        features.pin("demand", commits["tuned"]),
        features.pin("demand", commits["first"]),
    )
    features.move("demand", was, only_from=[None], note="s")
    link = tmp_path / "live" / "features"
    link.unlink()
    link.symlink_to(tmp_path / "pricing" / "features")
    with pytest.raises(Conflict):
        features.move("demand", to, only_from=[was], note="s")
    assert link.readlink() == tmp_path / "pricing" / "features"


def test_what_was_live_before_ebbtide_comes_back(
    features: Features, commits: dict[str, str], tmp_path: Path
) -> None:
    link = tmp_path / "live" / "features"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "pricing" / "features")
    was, to = features.live("demand"), features.pin("demand", commits["first"])
    assert was
    assert was.digest == features.pin("demand").digest
    features.move("demand", to, only_from=[was], note="s")
    features.move("demand", was, only_from=[to], note="s")
    assert link.resolve() == tmp_path / "pricing" / "features"


def test_a_link_never_leads_to_features_that_are_not_there(
    features: Features, commits: dict[str, str], tmp_path: Path
) -> None:
    pin = features.pin("demand", commits["first"])
    features.move("demand", pin, only_from=[None], note="s")
    shutil.rmtree(features.path(pin))
    assert features.live("demand") != pin
    with pytest.raises(NotRestorable, match="are missing"):
        features.move("demand", pin, only_from=[None], note="s")


def test_a_folder_where_the_link_should_be_is_refused(features: Features, tmp_path: Path) -> None:
    pin = features.pin("demand")
    (tmp_path / "live" / "features").mkdir(parents=True)
    assert "not a link" in features.problems(pin)[0]
    with pytest.raises(Refused, match="not a link"):
        features.move("demand", pin, only_from=[None], note="s")
