"""A journal that was damaged or is old: found out, and nothing is decided by it."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.children import Ended, start
from tests.crash.journeys import SYSTEM
from tests.crash.production import Production

_UNKNOWN, _TAMPERED = 2, 7
_NOT_READY = (7, 9, 10)
"""What `doctor` may end with: the journal is damaged, no rollback works, or nobody knows."""


def truncate(journal: Path) -> None:
    os.truncate(journal, journal.stat().st_size // 2)


def flip(table: str, column: str) -> Callable[[Path], None]:
    """Flip one bit of the newest row."""

    def damage(journal: Path) -> None:
        with closing(sqlite3.connect(journal)) as database, database:
            database.execute("PRAGMA foreign_keys = OFF")
            query = f"SELECT rowid, {column} FROM {table} ORDER BY rowid DESC LIMIT 1"
            row, text = database.execute(query).fetchone()
            bad = text[:-3] + chr(ord(text[-3]) ^ 1) + text[-2:]
            database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (bad, row))

    return damage


def flip_in_the_file(journal: Path) -> None:
    """One bit of the page that says where all tables are."""
    content = bytearray(journal.read_bytes())
    content[104] ^= 0x40
    journal.write_bytes(content)


def delete(which: str) -> Callable[[Path], None]:
    def damage(journal: Path) -> None:
        with closing(sqlite3.connect(journal)) as database, database:
            database.execute(f"DELETE FROM audit WHERE n = ({which})")

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_in_the_file,
        flip("audit", "detail"),
        flip("audit_head", "digest"),
        flip("routes", "token"),
        flip("routes", "release"),
        delete("SELECT entries / 2 FROM audit_head"),
        delete("SELECT entries FROM audit_head"),
    ],
    ids=["truncated", "bit of the file", "bit of an entry", "bit of the head", "bit of the token",
         "bit of the route", "deleted entry", "deleted last entry"],
)  # fmt: skip
def test_a_damaged_journal_halts_everything(
    production: Production, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    journal = copied(production, tmp_path)
    damage(journal)
    before = production.oracle.everything()
    ended = [told(production, journal, words) for words in orders(production)]
    rollback, verify, doctor = ended
    assert rollback.code == _TAMPERED or "No release" in rollback.out, rollback
    assert verify.code in (_UNKNOWN, _TAMPERED), verify
    assert doctor.code in _NOT_READY, doctor
    assert production.oracle.everything() == before


def test_a_backup_that_is_older_than_the_stores_is_found_out(
    production: Production, tmp_path: Path
) -> None:
    production.go("v2")
    backup = copied(production, tmp_path)
    production.go("v3")
    before = production.oracle.everything()
    rollback, _, doctor = (told(production, backup, words) for words in orders(production, to="v1"))
    assert rollback.code == _TAMPERED and "older than what it vouches for" in rollback.out
    assert doctor.code in _NOT_READY and "epoch" in doctor.out
    assert production.oracle.everything() == before


def test_whoever_serves_does_not_go_back_with_an_old_journal(production: Production) -> None:
    """The route of a restored backup names an earlier epoch: it is not followed."""
    production.go("v1")
    route = "SELECT release, epoch, token FROM routes"
    now = production.sql(route)[0]
    old = production.sql(f"SELECT release, epoch FROM tenures WHERE epoch < {now[1]} LIMIT 1")[0]
    try:
        production.sql(f"UPDATE routes SET release = '{old[0]}', epoch = {old[1]}, token = 'old'")
        served = len(production.asked(100))
        assert {each.release for each in production.asked(served + 50)[served:]} == {now[0]}
        halted = production.command("rollback", SYSTEM, "--yes").ended()
        assert halted.code == _TAMPERED and "replica one serves epoch" in halted.out
    finally:
        release, epoch, token = now
        production.sql(
            f"UPDATE routes SET release = '{release}', epoch = {epoch}, token = '{token}'"
        )


def orders(production: Production, to: str = "v2") -> Iterator[tuple[str, ...]]:
    yield ("rollback", SYSTEM, "--to", production.release(to).id, "--yes")
    yield ("verify", SYSTEM)
    yield ("doctor", SYSTEM)


def copied(production: Production, folder: Path) -> Path:
    """The journal as a backup takes it."""
    copy = folder / "journal.db"
    with (
        closing(sqlite3.connect(production.system.journal)) as live,
        closing(sqlite3.connect(copy)) as backup,
    ):
        live.backup(backup)
    return copy


def told(production: Production, journal: Path, words: tuple[str, ...]) -> Ended:
    """What a command says of the same system with another journal; that one stays as it was."""
    folder = production.system.root / "configs/damaged"
    folder.mkdir(exist_ok=True)
    text = (production.system.root / "configs/production" / f"{SYSTEM}.yaml").read_text()
    mine = text.replace(str(production.system.journal), str(journal))
    (folder / f"{SYSTEM}.yaml").write_text(mine)
    out = journal.with_suffix(f".{words[0]}.out")
    return start((*words, "--systems", str(folder)), out, {}).ended()
