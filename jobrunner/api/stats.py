"""`/stats`: how much waits, how much gets done, and what each worker does right now."""

import math
from datetime import datetime, timedelta
from typing import Any, Final

from flask import Blueprint, Response
from msgspec import Raw
from sqlalchemy import Connection

from jobrunner.api import query, schemas
from jobrunner.api.context import this_api
from jobrunner.api.replies import json_reply, situation
from jobrunner.api.situation import Situation
from jobrunner.clock import utc_now
from jobrunner.lifecycle import State
from jobrunner.store import dispatchers, jobs, throughput
from jobrunner.store import series as store_series
from jobrunner.store.dispatchers import Dispatcher

routes: Final = Blueprint("stats", __name__)
_SERIES: Final = schemas.SeriesQuery()
_MINUTES: Final = (1, 5, 15)
_MOST_STEPS: Final = 2000
_USUAL_STEPS: Final = 120


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


@routes.get("/stats/series")
def show_series() -> Response:
    """Show how many jobs ended, waited and ran over the last `window` seconds, in steps of `step` seconds."""
    asked = query.read(_SERIES)
    window = timedelta(seconds=asked["window"])
    step = int(_step(window, asked["step"]).total_seconds())
    steps = max(1, asked["window"] // step)
    with this_api().store.read() as connection:
        found = store_series.series(connection, until=utc_now(), step_seconds=step, steps=steps)
    columns = {
        "t": [int(one.at.timestamp()) for one in found],
        "done": [one.done for one in found],
        "failed": [one.failed for one in found],
        "queued": [one.queued for one in found],
        "busy": [one.busy for one in found],
    }
    return json_reply({"step_seconds": step, **columns})


def _step(window: timedelta, asked_seconds: int | None) -> timedelta:
    """Return the step that is asked for, or the next longer one for which there are samples and room."""
    seconds = asked_seconds or math.ceil(window.total_seconds() / _USUAL_STEPS)
    finest = store_series.finest(window)
    return finest * math.ceil(timedelta(seconds=max(seconds, window.total_seconds() / _MOST_STEPS)) / finest)
