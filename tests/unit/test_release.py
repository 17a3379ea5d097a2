"""A release is its content; a diff says what changed; golden answers compare strictly."""

import json

import pytest

from ebbtide.core.errors import Tampered
from ebbtide.core.golden import same_answers
from ebbtide.core.release import Pin, Release, diff

MODEL = Pin("demand", "a" * 64, {"version": "3"})
CONFIG = Pin("prices", "b" * 64, {"commit": "c" * 40})


def test_the_id_is_the_content_whatever_the_order() -> None:
    one = Release("shop", {"model": (MODEL,), "config": (CONFIG,)})
    other = Release("shop", {"config": (CONFIG,), "model": (MODEL,)})
    assert one.id == other.id
    assert len(one.id) == 64
    assert one.id != Release("shop", {"model": (MODEL,)}).id


def test_a_manifest_survives_json_and_unknown_layers() -> None:
    release = Release("shop", {"embeddings": (Pin("docs", "d" * 64),), "model": (MODEL,)})
    assert Release.from_json(json.loads(json.dumps(release.to_json()))) == release
    with pytest.raises(Tampered):
        Release.from_json({**release.to_json(), "format": 99})


def test_a_pin_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        MODEL.at["version"] = "4"  # type: ignore[index]  # the very fault


def test_a_diff_names_what_came_went_and_changed() -> None:
    newer = Pin("demand", "e" * 64, {"version": "4"})
    before = Release("shop", {"model": (MODEL,), "config": (CONFIG,)})
    after = Release("shop", {"model": (newer,), "prompt": (Pin("mail", "f" * 64),)})
    found = {(change.layer, change.before, change.after) for change in diff(before, after)}
    assert found == {
        ("config", CONFIG, None),
        ("model", MODEL, newer),
        ("prompt", None, Pin("mail", "f" * 64)),
    }
    assert diff(before, before) == ()


@pytest.mark.parametrize(
    ("expected", "got", "passes"),
    [
        ([{"price": 1.0}], [{"price": 1.0 + 1e-9}], True),
        ([{"price": 1.0}], [{"price": 1.01}], False),
        ([{"price": 1.0}], [{"price": float("nan")}], False),
        ([{"price": 1.0}], [{}], False),
        ([{"price": 1.0}], [{"price": 1.0, "extra": 1}], False),
        ([{"ok": True}], [{"ok": 1}], False),
        (["a"], ["b"], False),
        ([[1, 2]], [[1]], False),
        ([1, 2], [1], False),
        ([], [], False),
        ([None], [None], True),
    ],
)
def test_golden_answers_compare_strictly(
    expected: list[object], got: list[object], passes: bool
) -> None:
    assert same_answers(expected, got, 1e-6).passed is passes
