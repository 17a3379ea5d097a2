"""Values in manifests are replaced where they stand; everything else stays as it is."""

import json

import pytest
import yaml

from ebbtide.adapters.git.manifests import value_at, with_values
from ebbtide.core.errors import Refused

VALUES = b"""\
# What the cluster runs. \xe2\x80\x94 by hand
model:
  version:   "6"   # set by the release
  empty:
  flow: {tag: a, other: [1, {deep: x}]}
images:
  - name: pricing
    newTag: v1
metadata:
  annotations: {example.org/commit: 'old'}
text: |
  block
"""


def test_only_the_values_change() -> None:
    written = with_values(
        VALUES,
        {
            "model.version": "7",
            "model.empty": "x",
            "model.flow.other.1.deep": 'q"\n',
            "images.0.newTag": "2.0",
            r"metadata.annotations.example\.org/commit": "abc: def",
        },
        "values.yaml",
    )
    expected = (
        VALUES.replace(b'"6"', b'"7"')
        .replace(b"empty:", b'empty: "x"')
        .replace(b"deep: x", rb'deep: "q\"\n"')
        .replace(b"newTag: v1", b'newTag: "2.0"')
        .replace(b"'old'", b'"abc: def"')
    )
    assert written == expected
    loaded = yaml.safe_load(written)
    assert loaded["model"]["version"] == "7" and loaded["images"][0]["newTag"] == "2.0"
    assert loaded["model"]["flow"]["other"][1]["deep"] == 'q"\n'
    assert with_values(written, {"model.version": "7"}, "values.yaml") == written


def test_json_stays_json() -> None:
    written = with_values(b'{"a": {"b": 1}, "c": [true]}', {"a.b": "2", "c.0": "x"}, "v.json")
    assert json.loads(written) == {"a": {"b": "2"}, "c": ["x"]}


def test_one_of_several_documents_is_found() -> None:
    two = b"kind: A\n---\nkind: B\nspec: {image: old}\n"
    assert yaml.safe_load_all(with_values(two, {"spec.image": "new"}, "m"))
    assert b'image: "new"' in with_values(two, {"spec.image": "new"}, "m")
    with pytest.raises(Refused, match="not one plain value at `kind`"):
        with_values(two, {"kind": "C"}, "m")


@pytest.mark.parametrize(
    ("content", "key", "says"),
    [
        (VALUES, "model.nothing", "no value at"),
        (VALUES, "model", "no value at"),
        (VALUES, "images.9.newTag", "no value at"),
        (VALUES, "images.name", "no value at"),
        (VALUES, "text", "not one plain value"),
        (b"", "a", "no value at"),
        (b"a: [", "a", "cannot be read as YAML"),
        (b"a: " + b"[" * 5000, "a", "cannot be read as YAML"),
        (b"\xff\xfe", "a", "is no text"),
        (b"\xef\xbb\xbfa: 1", "a", "byte order mark"),
    ],
)
def test_what_cannot_be_written_is_refused(content: bytes, key: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        with_values(content, {key: "x"}, "m.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [("model.version", "6"), ("images.0.newTag", "v1"), ("model.empty", None), ("model.no", None)],
)
def test_values_are_read_as_their_text(key: str, value: str | None) -> None:
    assert value_at(VALUES, key, "m") == value
