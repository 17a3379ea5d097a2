"""A fence of a table that others commit to as well."""

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta import fences
from ebbtide.core.errors import Conflict

OTHERS = {"team": "pricing"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_deltalake(tmp_path / "prices", pa.table({"price": [1.0]}))
    return tmp_path / "prices"


def changed_by_others(place: Path) -> None:
    DeltaTable(place).alter.set_table_properties(OTHERS, raise_if_not_exists=False)


def test_properties_that_others_change_meanwhile_do_not_hinder_it(place: Path) -> None:
    looked = DeltaTable(place)
    changed_by_others(place)
    fences.hold(looked, "prices", "shop", "saga")
    assert fences.standing(DeltaTable(place), "shop") == "saga"
    assert OTHERS.items() <= DeltaTable(place).metadata().configuration.items()


def test_where_others_are_always_faster_it_is_a_conflict_and_not_up(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = DeltaTable(place)
    attempts = []

    def faster() -> None:
        attempts.append(1)
        assert len(attempts) < 100, "it never gives up"
        changed_by_others(place)

    monkeypatch.setattr(fences, "still_ours", faster)
    with pytest.raises(Conflict, match="delta-rs"):
        fences.hold(looked, "prices", "shop", "saga")
    assert len(attempts) > 1
    assert fences.standing(DeltaTable(place), "shop") == ""
