"""Statements that are compiled once.

SQLAlchemy looks every statement up in its cache anew and prepares its result for
every type: five times as long as SQLite takes to run it. The few statements that
each of a saga's writes begins or ends with are worth more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler

NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Compiled:
    text: str
    order: tuple[str, ...] | None
    """Names of the values in their order; None where the driver takes names."""
    fixed: Mapping[str, Any]
    """What the statement itself says."""


@dataclass(frozen=True, slots=True)
class Ready:
    """One statement. Only for columns of plain integers and text: no type is converted."""

    statement: Executable
    columns: tuple[str, ...] = ()
    """Those that are given to an insert or an update."""
    _compiled: dict[str, _Compiled] = field(default_factory=dict)

    def run(self, connection: Connection, given: Mapping[str, Any] = NONE) -> CursorResult[Any]:
        """Raises KeyError where a value is not given."""
        name = connection.dialect.driver
        if name not in self._compiled:
            self._compiled[name] = self._compile(connection.dialect)
        made = self._compiled[name]
        values = {**made.fixed, **given}
        if made.order is None:
            return connection.exec_driver_sql(made.text, values)
        return connection.exec_driver_sql(made.text, tuple([values[each] for each in made.order]))

    def _compile(self, dialect: Dialect) -> _Compiled:
        made = self.statement.compile(dialect=dialect, column_keys=list(self.columns) or None)  # type: ignore[attr-defined]  # every statement has it
        if not isinstance(made, SQLCompiler):
            raise TypeError(f"{self.statement!r} cannot be compiled")
        fixed = {name: value for name, value in made.params.items() if value is not None}
        order = tuple(made.positiontup or ()) if made.positional else None
        return _Compiled(str(made), order, fixed)
