"""What a database's errors mean to whoever handles them."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from ebbtide.core.errors import Conflict, EbbtideError, Tampered, Unreachable

_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_TABLE_GONE = ("no such table", "no such column")
_SQLSTATE_TABLE_GONE = ("42P01", "42703")
_SQLSTATE_CORRUPT = ("XX001", "XX002")


@dataclass(frozen=True, slots=True)
class Faults:
    """Translates the errors of one database, and never tells its password."""

    shown: str
    """The URL without secrets."""
    secrets: tuple[str, ...] = ()

    @classmethod
    def of(cls, url: URL) -> "Faults":
        hidden = {key: "***" for key in url.query if "pass" in key.lower()}
        given = (url.password, *(url.query[key] for key in hidden))
        secrets = tuple(text for text in given if isinstance(text, str) and text)
        return cls(url.update_query_dict(hidden).render_as_string(hide_password=True), secrets)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise `Unreachable`, `Tampered` or `Conflict` for what the database raises."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as fault:
            # Not `from fault`: its text may hold the URL, and a traceback prints it.
            raise self.meaning(fault) from None

    def meaning(self, fault: Exception) -> EbbtideError:
        cause = fault.orig if isinstance(fault, DBAPIError) and fault.orig else fault
        reason = self._without_secrets(" ".join(str(cause).split()))
        if isinstance(fault, (IntegrityError, sqlite3.IntegrityError)):
            return Conflict(f"The journal {self.shown} refused a write: {reason}")
        if _is_damage(cause):
            return Tampered(
                f"The journal {self.shown} is damaged: {reason}",
                remedy="Keep the file as evidence and restore the journal from its backup.",
            )
        return Unreachable(
            f"The journal {self.shown} cannot be used: {reason}", remedy=_help(cause)
        )

    def _without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


@contextmanager
def reading(record: str) -> Iterator[None]:
    """Raise `Tampered` where a stored record does not have its form any more."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise Tampered(
            f"{record} cannot be read: {fault!r}", remedy="Run `ebbtide verify`."
        ) from fault


def _is_damage(cause: BaseException) -> bool:
    code, state = _sqlite_code(cause), str(getattr(cause, "sqlstate", None))
    gone = isinstance(cause, sqlite3.Error) and str(cause).startswith(_TABLE_GONE)
    return code in _CORRUPT or gone or state in (*_SQLSTATE_TABLE_GONE, *_SQLSTATE_CORRUPT)


def _help(cause: BaseException) -> str:
    code = _sqlite_code(cause)
    if code in _BUSY:
        return "Another process holds its lock: try again."
    if code == sqlite3.SQLITE_FULL:
        return "Free space on its disk."
    if isinstance(cause, sqlite3.Error):
        return "Check that its folder is there and can be written by this user."
    return "Check that the database is up, the `journal` URL is right and this user may write."


def _sqlite_code(cause: BaseException) -> int | None:
    """The primary result code; SQLite keeps detail in the bits above the lowest eight."""
    code = getattr(cause, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None
