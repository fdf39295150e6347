"""The task catalogue: what dispatchers have published, and the API knows tasks by."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, exists, insert, select

from jobrunner.errors import TaskNotFoundError
from jobrunner.store.tables import dispatcher, task

_LATEST_FIRST: Final = (task.c.published_at.desc(), task.c.dispatcher_id.desc())


def publish(
    connection: Connection, dispatcher_id: int, descriptions: Sequence[dict[str, Any]], *, now: datetime
) -> None:
    """Put these tasks in the place of all that this dispatcher, or one that has ended, has published.

    Each dispatcher has rows of its own, so that a task which two of them serve stays when one of them goes.

    Args:
        connection: a write transaction.
        dispatcher_id: who serves them.
        now: when.
        descriptions: `name`, `doc`, `params` (JSON Schema) and `options` of each task.
    """
    its_dispatcher_lives = exists().where(
        dispatcher.c.id == task.c.dispatcher_id, dispatcher.c.ended_at.is_(None)
    )
    connection.execute(delete(task).where((task.c.dispatcher_id == dispatcher_id) | ~its_dispatcher_lives))
    rows = [
        {
            "name": one["name"],
            "dispatcher_id": dispatcher_id,
            "published_at": now,
            "description": json.dumps(one),
        }
        for one in descriptions
    ]
    if rows:
        connection.execute(insert(task), rows)


def description(connection: Connection, name: str) -> str:
    """Return the task's description as JSON.

    Raises:
        TaskNotFoundError: no dispatcher has published it.
    """
    latest = select(task.c.description).where(task.c.name == name).order_by(*_LATEST_FIRST).limit(1)
    found = connection.execute(latest).scalar()
    if found is None:
        raise TaskNotFoundError(name)
    return str(found)


def descriptions(connection: Connection) -> list[str]:
    """Return the description of every task as JSON, by name; of several dispatchers', what was published last."""
    found: dict[str, str] = {}
    for row in connection.execute(
        select(task.c.name, task.c.description).order_by(task.c.name, *_LATEST_FIRST)
    ):
        found.setdefault(row.name, row.description)
    return list(found.values())


def names(connection: Connection) -> list[str]:
    """Return the name of every task, in order."""
    return list(connection.execute(select(task.c.name).distinct().order_by(task.c.name)).scalars())
