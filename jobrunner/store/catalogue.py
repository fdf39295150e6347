"""The task catalogue: what dispatchers have published, and the API knows tasks by."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from jobrunner.errors import TaskNotFoundError
from jobrunner.store.quick import Quick, Source
from jobrunner.store.tables import dispatcher, task

_LATEST_FIRST: Final = (task.c.published_at.desc(), task.c.dispatcher_id.desc())
_DESCRIPTION: Final = Quick(
    select(task.c.description).where(task.c.name == bindparam("name")).order_by(*_LATEST_FIRST).limit(1)
)
_SERVED: Final = Quick(select(task.c.name).where(task.c.dispatcher_id == bindparam("dispatcher_id")))
_NAMES: Final = Quick(select(task.c.name).distinct().order_by(task.c.name))


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


def description(source: Source, name: str) -> str:
    """Return the task's description as JSON.

    Raises:
        TaskNotFoundError: no dispatcher has published it.
    """
    found = _DESCRIPTION.first(source, name=name)
    if found is None:
        raise TaskNotFoundError(name)
    return str(found[0])


def descriptions(connection: Connection) -> list[str]:
    """Return the description of every task as JSON, by name; of several dispatchers', what was published last."""
    found: dict[str, str] = {}
    for row in connection.execute(
        select(task.c.name, task.c.description).order_by(task.c.name, *_LATEST_FIRST)
    ):
        found.setdefault(row.name, row.description)
    return list(found.values())


def served(source: Source, dispatcher_ids: Collection[int]) -> frozenset[str]:
    """Return the names of the tasks that these dispatchers have published."""
    return frozenset(name for one in dispatcher_ids for (name,) in _SERVED.rows(source, dispatcher_id=one))


def names(source: Source) -> list[str]:
    """Return the name of every task, in order."""
    return [name for (name,) in _NAMES.rows(source)]
