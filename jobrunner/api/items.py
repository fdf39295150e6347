"""`/jobs/{id}/items`: what became of the items of a map job."""

import weakref
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from flask import Blueprint, Response

from jobrunner.api import query, schemas
from jobrunner.api.context import this_api
from jobrunner.api.piecemeal import told
from jobrunner.api.refusals import NoMapJobError
from jobrunner.api.replies import NDJSON, json_reply, one_line, wants_lines, with_retry_after
from jobrunner.api.shapes import item_shape
from jobrunner.items import Items
from jobrunner.lifecycle import State
from jobrunner.store import items, jobs
from jobrunner.store.engine import Store
from jobrunner.store.jobs import Job
from jobrunner.store.quick import Source

routes: Final = Blueprint("items", __name__)
_ITEMS: Final = schemas.ItemsQuery()
_PAGE_CHARACTERS: Final = 16 << 20  # of values and errors in one answer, beside its last one
_AT_ONCE: Final = 4096  # items that are read at a time


@routes.get("/jobs/<job_id:job_id>/items")
def list_items(job_id: int) -> Response:
    """List the items of a map job that have succeeded, or failed for good; as NDJSON, all that there are now."""
    asked = query.read(_ITEMS)
    states = [State(one) for one in asked["state"] or schemas.ItemState]
    index = 0 if asked["after"] is None else asked["after"] + 1
    store = this_api().store
    with store.read() as connection:
        job = jobs.get(connection, job_id)
        if job.item_count is None:
            raise NoMapJobError(job_id)
        if not wants_lines():
            found, has_more = items.page(
                connection,
                job_id,
                states,
                index=index,
                limit=asked["limit"],
                most_characters=_PAGE_CHARACTERS,
            )
            params = _items_of(connection, job)
    if wants_lines():
        return told(job_id, _lines(store, job, states, index), NDJSON)
    shown = [item_shape(one, params.params(one.number)) for one in found]
    following = found[-1].number if has_more else None
    return with_retry_after(job, json_reply({"items": shown, "next": following}))


def _lines(store: Store, job: Job, states: Sequence[State], index: int) -> Iterator[bytes]:
    params = _items_of(store, job)
    has_more = True
    while has_more:
        with store.read() as connection:
            jobs.version(connection, job.id)  # it may be being removed
            found, has_more = items.page(connection, job.id, states, index=index, limit=_AT_ONCE)
        yield from (one_line(item_shape(one, params.params(one.number))) for one in found)
        index = found[-1].number + 1 if found else index


# What is parsed may take a hundred megabytes: all who look at the items of one job share it.
_parsed: Final[weakref.WeakValueDictionary[tuple[int, datetime], Items]] = weakref.WeakValueDictionary()


def _items_of(source: Source, job: Job) -> Items:
    """Return the items of a map job; what it was asked for never changes."""
    key = job.id, job.created_at
    found = _parsed.get(key)
    if found is None:
        found = _parsed[key] = Items.parse(items.spec(source, job.id))
    return found
