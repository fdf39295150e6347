"""Connections that remember what was asked through them, and how much SQLite has worked for it."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from sqlalchemy import Engine, event

STEP = 50  #: of SQLite's machine: how finely its work is counted


@dataclass
class Recorded:
    """What all connections did that were opened meanwhile."""

    statements: dict[str, Any] = field(
        default_factory=dict
    )  #: each with parameters that it was executed with
    steps: int = 0  #: that SQLite's machine has made, but for some STEP of each statement


@contextmanager
def recorded() -> Iterator[Recorded]:
    """Record what goes through every connection that a store opens within the block."""
    found = Recorded()

    class Cursor(sqlite3.Cursor):
        def execute(self, sql: str, parameters: Any = (), /) -> "Cursor":
            found.statements.setdefault(sql, parameters)
            super().execute(sql, parameters)
            return self

        def executemany(self, sql: str, parameters: Iterable[Any], /) -> "Cursor":
            rows = iter(parameters)
            first = next(rows, None)
            if first is not None:
                found.statements.setdefault(sql, first)
                super().executemany(sql, chain([first], rows))
            return self

    class Connection(sqlite3.Connection):
        def cursor(self, factory: Any = Cursor) -> Any:
            return super().cursor(factory)

        def execute(self, sql: str, parameters: Any = (), /) -> Any:
            return self.cursor().execute(sql, parameters)

        def executemany(self, sql: str, parameters: Iterable[Any], /) -> Any:
            return self.cursor().executemany(sql, parameters)

        def count(self) -> None:
            found.steps += STEP

    def make(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["factory"] = Connection

    def set_up(connection: Connection, _record: Any) -> None:
        connection.set_progress_handler(connection.count, STEP)

    event.listen(Engine, "do_connect", make)
    event.listen(Engine, "connect", set_up)
    try:
        yield found
    finally:
        event.remove(Engine, "do_connect", make)
        event.remove(Engine, "connect", set_up)
