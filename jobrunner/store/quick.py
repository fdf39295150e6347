"""Statements that are executed thousands of times a second: compiled once, and taken past SQLAlchemy's machinery.

That takes ten times as long to execute a query as SQLite takes to answer it, and as long again for each row of an
INSERT.
"""

from collections.abc import Sequence
from enum import Enum
from operator import itemgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Delete, Insert, Select, Update, bindparam, func, select
from sqlalchemy.dialects import sqlite

from jobrunner.store.engine import Store

#: Where to ask: in a transaction, or by itself, for one query is a consistent view.
Source: TypeAlias = Connection | Store

_DIALECT: Final = sqlite.dialect(paramstyle="named")
_BY_PLACE: Final = sqlite.dialect(paramstyle="qmark")


def in_list(name: str) -> Select[Any]:
    """Return what stands right of IN for a parameter that is a list as JSON, however many are in it."""
    return select(func.json_each(bindparam(name)).table_valued("value").c.value)


class Quick:
    """A query; its parameters are numbers and texts."""

    def __init__(self, query: Select[Any]) -> None:
        compiled = query.compile(dialect=_DIALECT)
        self._sql = str(compiled)
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}
        made = (column.type.dialect_impl(_DIALECT) for column in query.selected_columns)
        processors = (one.result_processor(_DIALECT, None) for one in made)
        self._processors = [(at, one) for at, one in enumerate(processors) if one is not None]

    def first(self, source: Source, **values: int | str) -> tuple[Any, ...] | None:
        """Return the first row; None if there is none.

        Raises:
            StoreUnavailableError: the store cannot be read.
        """
        rows = self.rows(source, **values)
        return rows[0] if rows else None

    def rows(self, source: Source, **values: int | str) -> list[tuple[Any, ...]]:
        """Return all rows; raises what `first` raises."""
        values |= self._constants
        if isinstance(source, Store):
            found = source.ask(self._sql, values)
        else:
            raw: Any = source.connection.dbapi_connection
            found = raw.execute(self._sql, values).fetchall()
        return [self._processed(row) for row in found] if self._processors else found

    def _processed(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for at, process in self._processors:
            values[at] = process(values[at])
        return tuple(values)


class QuickMany:
    """An INSERT, UPDATE or DELETE that is executed once for each of many rows."""

    def __init__(self, statement: Insert | Update | Delete, *columns: str) -> None:
        """Compile the statement.

        Args:
            statement: of an INSERT, the table alone.
            columns: of an INSERT, those that the rows give, and no others.
        """
        compiled = statement.compile(dialect=_BY_PLACE, column_keys=list(columns) or None)
        self._sql = str(compiled)
        places = compiled.positiontup or []
        given = {name for name in places if compiled.binds[name].required}
        self._constants = {
            name: _plain(value) for name, value in compiled.params.items() if name not in given
        }
        self._values = itemgetter(*places) if len(places) > 1 else lambda row: (row[places[0]],)
        types = ((name, compiled.binds[name].type.dialect_impl(_BY_PLACE)) for name in given)
        processors = ((name, one.bind_processor(_BY_PLACE)) for name, one in types)
        self._processors = [(name, one) for name, one in processors if one is not None]

    def execute(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
        """Execute it for each row, which is left as SQLite takes it; return how many were changed."""
        for name, process in self._processors:
            before = processed = None
            for row in rows:
                if row[name] is not before:  # most are the same moment
                    before = row[name]
                    processed = process(before)
                row[name] = processed
        if self._constants:
            for row in rows:
                row.update(self._constants)
        raw: Any = connection.connection.dbapi_connection
        changed: int = raw.executemany(self._sql, map(self._values, rows)).rowcount
        return changed


def _plain(value: Any) -> Any:
    """Return `value` as SQLite takes it without asking what it is."""
    return value.value if isinstance(value, Enum) else value
