"""Statements that are executed thousands of times a second: compiled once, and taken past SQLAlchemy's machinery.

That takes ten times as long to execute a query as SQLite takes to answer it, and as long again for each row of an
INSERT.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Insert, Select
from sqlalchemy.dialects import sqlite

from jobrunner.store.engine import Store

#: Where to ask: in a transaction, or by itself, for one query is a consistent view.
Source: TypeAlias = Connection | Store

_DIALECT: Final = sqlite.dialect(paramstyle="named")
_BY_PLACE: Final = sqlite.dialect(paramstyle="qmark")


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


class QuickInsert:
    """An INSERT of rows that give these columns and no others."""

    def __init__(self, statement: Insert, *columns: str) -> None:
        compiled = statement.compile(dialect=_BY_PLACE, column_keys=list(columns))
        self._sql = str(compiled)
        self._values = itemgetter(*(compiled.positiontup or ()))
        types = ((name, statement.table.c[name].type.dialect_impl(_BY_PLACE)) for name in columns)
        processors = ((name, one.bind_processor(_BY_PLACE)) for name, one in types)
        self._processors = [(name, one) for name, one in processors if one is not None]

    def execute(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Insert the rows, and leave them as SQLite takes them."""
        for name, process in self._processors:
            before = processed = None
            for row in rows:
                if row[name] is not before:  # most are the same moment
                    before = row[name]
                    processed = process(before)
                row[name] = processed
        raw: Any = connection.connection.dbapi_connection
        raw.executemany(self._sql, map(self._values, rows))
