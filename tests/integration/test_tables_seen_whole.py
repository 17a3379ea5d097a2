"""A version that preflight saw whole: it is not opened again, but damaged since it is noticed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from ebbtide.adapters.delta.tables import Tables
from ebbtide.adapters.system.file import DataThing
from ebbtide.core.errors import NotRestorable
from ebbtide.core.release import Pin


class Watched(Tables):
    """Remembers which versions were opened by their number."""

    opened: list[int | None]

    def _open(self, name: str, version: int | None = None) -> DeltaTable:
        self.opened.append(version)
        return super()._open(name, version)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Version 0 in a file, version 1 in another."""
    path = tmp_path / "prices"
    for price in (1.0, 2.0):
        write_deltalake(path, pa.table({"price": [price]}), mode="overwrite")
    DeltaTable(path).create_checkpoint()  # the newest is there without the commits before it
    return path


@pytest.fixture
def tables(place: Path) -> Watched:
    found = Watched({"prices": DataThing(path="prices", role="reference")}, place.parent.joinpath)
    found.opened = []
    return found


@pytest.fixture
def pin(tables: Watched) -> Pin:
    """Version 0, seen whole."""
    pin = tables.pin("prices", "0")
    assert tables.problems(pin) == []
    tables.opened.clear()
    return pin


def move(tables: Tables, pin: Pin) -> None:
    tables.move("prices", pin, only_from=[tables.live("prices")], note="saga")


def test_it_is_not_opened_again(tables: Watched, pin: Pin) -> None:
    move(tables, pin)
    assert set(tables.opened) == {None}
    found = tables.live("prices")
    assert found and found.digest == pin.digest


def test_another_version_can_be_moved_to(tables: Watched, pin: Pin) -> None:
    move(tables, pin)
    newer = tables.pin("prices", "1")
    tables.opened.clear()
    move(tables, newer)
    found = tables.live("prices")
    assert found and found.digest == newer.digest


def test_another_version_is_looked_at(tables: Watched, place: Path, pin: Pin) -> None:
    move(tables, pin)
    newer = tables.pin("prices", "1")
    file_of(place, 1).unlink()
    with pytest.raises(NotRestorable):
        move(tables, newer)


def test_what_was_opened_before_is_not_opened_again(tables: Watched, pin: Pin) -> None:
    assert tables.problems(pin) == [] and tables.pin("prices", "0") == pin
    assert tables.opened == []


def test_it_is_opened_again_once_somebody_has_committed(
    tables: Watched, place: Path, pin: Pin
) -> None:
    write_deltalake(place, pa.table({"price": [3.0]}), mode="append")
    assert tables.problems(pin) == []
    assert tables.opened == [0]


def test_a_commit_that_an_opened_version_grew_from_is_missed(tables: Watched, place: Path) -> None:
    write_deltalake(place, pa.table({"price": [3.0]}), mode="append")
    for checkpoint in (place / "_delta_log").glob("*checkpoint*"):
        checkpoint.unlink()
    newer = tables.pin("prices", "2")
    assert tables.problems(newer) == []
    (place / "_delta_log" / f"{1:020}.json").unlink()
    assert tables.problems(newer)


def test_that_version_under_another_digest_is_no_such_version(
    tables: Watched, place: Path, pin: Pin
) -> None:
    forged = replace(pin, digest="0" * 64)
    with pytest.raises(NotRestorable):
        move(tables, forged)
    assert DeltaTable(place).version() == 1


def file_of(place: Path, version: int = 0) -> Path:
    (name,) = DeltaTable(place, version=version).file_uris()
    return Path(name)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def edited(path: Path) -> None:
    path.write_text(path.read_text().replace('"price', '"prize'))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a file is gone": lambda place: file_of(place).unlink(),
    "a file is cut short": lambda place: cut_short(file_of(place)),
    "its commit is gone": lambda place: (place / "_delta_log" / f"{0:020}.json").unlink(),
    "its commit was edited": lambda place: edited(place / "_delta_log" / f"{0:020}.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_damaged_since_is_not_restored(
    tables: Watched, place: Path, pin: Pin, damage: str
) -> None:
    DAMAGES[damage](place)
    with pytest.raises(NotRestorable):
        move(tables, pin)
    assert len(list((place / "_delta_log").glob("*.json"))) == 2 - (damage == "its commit is gone")


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_damaged_since_is_told(
    tables: Watched, place: Path, pin: Pin, damage: str
) -> None:
    DAMAGES[damage](place)
    assert tables.problems(pin)
