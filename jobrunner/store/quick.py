"""Queries that are asked a thousand times a second: compiled once, and executed past SQLAlchemy's machinery.

That takes ten times as long to execute a statement as SQLite takes to answer it.
"""

from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite

from jobrunner.store.engine import Store

#: Where to ask: in a transaction, or by itself, for one query is a consistent view.
Source: TypeAlias = Connection | Store

_DIALECT: Final = sqlite.dialect(paramstyle="named")


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
        if isinstance(source, Connection):
            return self._read(source.connection.dbapi_connection, values)
        with source.unshared() as connection:
            return self._read(connection, values)

    def _read(self, connection: Any, values: dict[str, int | str]) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = connection.execute(self._sql, self._constants | values).fetchall()
        return [self._processed(row) for row in found] if self._processors else found

    def _processed(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for at, process in self._processors:
            values[at] = process(values[at])
        return tuple(values)
