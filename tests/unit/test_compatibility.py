"""What a model was trained on decides whether it fits; names and types can only refuse."""

import json

import pytest

from ebbtide.core.compatibility import layers_fit
from ebbtide.core.gates import Verdict
from ebbtide.core.release import Pin, Release


def columns(**kinds: str) -> str:
    return json.dumps([{"name": name, "type": kind} for name, kind in kinds.items()])


def release(*, trained_on: str, features: str, pipeline: str = "", **at: str) -> Release:
    model = {
        "version": "1",
        "trained_on": trained_on,
        "inputs": columns(lag="double"),
        **at,
    }
    schema = {"schema": columns(lag="int64", zone="string"), "pipeline": pipeline}
    return Release(
        "shop",
        {
            "model": (Pin("m", "a" * 64, model),),
            "features": (Pin("f", features, schema),),
        },
    )


def test_trained_on_these_very_features_fits() -> None:
    assert layers_fit(release(trained_on="f1", features="f1"), []).passed


def test_a_refresh_of_the_same_pipeline_fits() -> None:
    refreshed = release(trained_on="f1", features="f2", pipeline="p", trained_pipeline="p")
    assert layers_fit(refreshed, []).passed


def test_other_features_under_the_same_names_do_not_fit() -> None:
    finding = layers_fit(release(trained_on="f1", features="f2"), [])
    assert finding.verdict is Verdict.FAILED
    assert "never proved together" in finding.why


def test_what_was_proved_together_fits_whatever_the_lineage_says() -> None:
    strange = release(trained_on="f1", features="f2")
    assert layers_fit(strange, [strange]).passed


def test_unknown_lineage_is_inconclusive() -> None:
    finding = layers_fit(release(trained_on="", features="f1"), [])
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "trained_on" in finding.remedy


@pytest.mark.parametrize(("kind", "fits"), [("float", True), ("string", False), ("boolean", False)])
def test_a_signature_that_cannot_read_a_column_refuses(kind: str, fits: bool) -> None:
    wanted = release(trained_on="f1", features="f1", inputs=columns(lag=kind))
    assert layers_fit(wanted, []).passed is fits


def test_a_system_without_features_has_nothing_to_fit() -> None:
    assert layers_fit(Release("shop", {"model": (Pin("m", "a" * 64),)}), []).passed
