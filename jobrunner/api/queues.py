"""`/queues`: what waits in each, and whether its jobs are started."""

from typing import Any, Final

from flask import Blueprint, Response
from sqlalchemy import Connection

from jobrunner.api import body, query, schemas
from jobrunner.api.context import this_api
from jobrunner.api.pointers import invalid_fields
from jobrunner.api.replies import json_reply
from jobrunner.clock import utc_now
from jobrunner.store import queues
from jobrunner.store.queues import Queue

routes: Final = Blueprint("queues", __name__)
_CHANGE: Final = schemas.QueueChange()


@routes.get("/queues")
def list_queues() -> Response:
    """List the queues that hold jobs or are paused, and `default`: how many jobs each holds, by state."""
    query.read()
    with this_api().store.read() as connection:
        found = queues.all_queues(connection)
    return json_reply({"items": [_shape(one) for one in found]})


@routes.get("/queues/<path:name>")
def show_queue(name: str) -> Response:
    """Show a queue."""
    query.read()
    with this_api().store.read() as connection:
        return json_reply(_shape(_found(connection, name)))


@routes.patch("/queues/<path:name>")
def change_queue(name: str) -> Response:
    """Pause a queue, so that none of its jobs is started, or resume it."""
    query.read()
    asked, flaws = schemas.load(_CHANGE, [body.read()])
    if flaws:
        raise invalid_fields(flaw._replace(path=flaw.path[1:]) for flaw in flaws)
    with this_api().store.write(durable=True) as connection:
        queue = _found(connection, name)
        if asked[0]["paused"]:
            queues.pause(connection, queue.name, now=utc_now())
            queue = queues.get(connection, queue.name)
        else:
            queues.resume(connection, queue.name)
            queue = queue._replace(paused_since=None)  # not read again: without jobs it is gone now
    this_api().ring()
    return json_reply(_shape(queue))


def _found(connection: Connection, name: str) -> Queue:
    """Return the queue of this name, or of what it is without a slash at its end: a path may have one."""
    is_known = name in queues.names(connection)
    return queues.get(connection, name if is_known else name.removesuffix("/"))


def _shape(queue: Queue) -> dict[str, Any]:
    paused = queue.paused_since is not None
    return {"name": queue.name, "paused": paused, "paused_since": queue.paused_since, "jobs": queue.jobs}
