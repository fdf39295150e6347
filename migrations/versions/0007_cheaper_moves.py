"""Moves are counted by those who make them; checks without IN.

SQLite fills a table with the values of an IN anew in each statement that must check it, which took a third of the time
or more of each event, attempt and move.  The checks are changed where SQLite keeps their text, as its manual advises:
the other way, to copy the tables, would take minutes for millions of events.
"""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STATES = ("queued", "running", "succeeded", "failed", "cancelled")
_FINAL = ("succeeded", "failed", "cancelled")
_KINDS = ("state", "partial", "progress", "log")
_ENDINGS = (
    *("succeeded", "exception", "timeout", "memory_limit", "crashed"),
    *("lost", "unserializable", "cancelled", "released"),
)
#: by table; on the way back, _STATES before _FINAL, which is a part of it
_CHECKS = (
    ("job", "state", _STATES),
    ("job", "state", _FINAL),
    ("attempt", "outcome", _ENDINGS),
    ("event", "kind", _KINDS),
    ("tally", "state", _STATES),
)
_CHANGE = sa.text("UPDATE sqlite_master SET sql = replace(sql, :old, :new) WHERE name = :table")


def upgrade() -> None:
    op.execute("DROP TRIGGER tally_update")
    _change_checks(_by_in, _by_or)


def downgrade() -> None:
    _change_checks(_by_or, _by_in)
    op.execute(
        """CREATE TRIGGER tally_update AFTER UPDATE OF state ON job WHEN OLD.state <> NEW.state BEGIN
             UPDATE tally SET jobs = jobs - 1 WHERE queue = OLD.queue AND state = OLD.state;
             INSERT INTO tally (queue, state, jobs) VALUES (NEW.queue, NEW.state, 1)
               ON CONFLICT (queue, state) DO UPDATE SET jobs = jobs + 1; END"""
    )


def _by_in(column: str, values: tuple[str, ...]) -> str:
    listed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({listed})"


def _by_or(column: str, values: tuple[str, ...]) -> str:
    return " OR ".join(f"{column} = '{value}'" for value in values)


def _change_checks(old: Callable[..., str], new: Callable[..., str]) -> None:
    # Others, who have the file open, see that the schema has changed by what is done to the trigger.
    op.execute("PRAGMA writable_schema = ON")
    for table, column, values in _CHECKS:
        op.execute(_CHANGE.bindparams(table=table, old=old(column, values), new=new(column, values)))
    op.execute("PRAGMA writable_schema = RESET")  # which reads it anew
