"""`/stats`: how much waits, how much gets done, and what each worker does right now."""

from datetime import datetime, timedelta
from typing import Any, Final

from flask import Blueprint, Response
from msgspec import Raw
from sqlalchemy import Connection

from jobrunner.api import query
from jobrunner.api.context import this_api
from jobrunner.api.replies import json_reply, situation
from jobrunner.api.situation import Situation
from jobrunner.lifecycle import State
from jobrunner.store import dispatchers, jobs, throughput
from jobrunner.store.dispatchers import Dispatcher

routes: Final = Blueprint("stats", __name__)
_MINUTES: Final = (1, 5, 15)


@routes.get("/stats")
def show_stats() -> Response:
    """Show how much waits, how much gets done, and what each worker does."""
    query.read()
    with this_api().store.read() as connection:
        around = situation(connection)
        counts = jobs.counts(connection)
        oldest = jobs.oldest_queued_at(connection)
        told = {
            "at": around.now,
            "jobs": {state: counts[state] for state in State},
            "oldest_queued_seconds": None if oldest is None else _age_seconds(oldest, around.now),
            "rates": [_rates(connection, minutes, around.now) for minutes in _MINUTES],
            "dispatchers": [_dispatcher(one, around) for one in dispatchers.alive(connection)],
        }
    return json_reply(told)


def _age_seconds(moment: datetime, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds())


def _rates(connection: Connection, minutes: int, now: datetime) -> dict[str, Any]:
    """Return the means over the last `minutes`; `busy_workers` is how many were busy at a time."""
    seconds = minutes * 60.0
    total = throughput.since(connection, now - timedelta(seconds=seconds))
    return {
        "minutes": minutes,
        "done_per_second": total.done / seconds,
        "failed_per_second": total.failed / seconds,
        "partials_per_second": total.partials / seconds,
        "busy_workers": total.busy_seconds / seconds,
    }


def _dispatcher(one: Dispatcher, around: Situation) -> dict[str, Any]:
    return {
        "id": one.id,
        "host": one.host,
        "pid": one.pid,
        "started_at": one.started_at,
        "heartbeat_age_seconds": _age_seconds(one.heartbeat_at, around.now),
        "alive": around.is_fresh(one),
        "workers": one.workers,
        "slots": Raw(one.slots),
    }
