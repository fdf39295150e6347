"""`/metrics`: what a Prometheus may want to know, read off the store at each scrape; no state of its own."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from sqlalchemy import Connection

import jobrunner
from jobrunner.api import query
from jobrunner.api.context import Api, this_api
from jobrunner.clock import utc_now
from jobrunner.store import dispatchers, jobs, queues
from jobrunner.store.dispatchers import Dispatcher

routes: Final = Blueprint("metrics", __name__)


@routes.get("/metrics")
def show_metrics() -> Response:
    """Show counts and gauges as OpenMetrics, or as Prometheus' own text where that is asked for."""
    query.read()
    encode, content_type = choose_encoder(request.headers.get("Accept", "application/openmetrics-text"))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(this_api()))
    return Response(encode(registry), content_type=content_type)


class _Scrape(Collector):
    """One look at everything."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def collect(self) -> Iterator[Metric]:
        """Yield every metric; from the store all as of one moment."""
        yield InfoMetricFamily("jobrunner", "The program.", {"version": jobrunner.__version__})
        waiting = "Requests to this process of the API that wait or stream."
        yield GaugeMetricFamily("jobrunner_api_waiting", waiting, self._api.watcher.waiting)
        now = utc_now()
        with self._api.store.read() as connection:
            yield from _of_jobs(connection, now)
            alive = dispatchers.alive(connection)
        yield from _of_dispatchers(alive, now)
        yield from _of_store(self._api)

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: the names are known at the scrape."""
        return iter(())


def _of_jobs(connection: Connection, now: datetime) -> Iterator[Metric]:
    held = GaugeMetricFamily("jobrunner_jobs", "Jobs that are kept.", labels=("queue", "state"))
    paused = GaugeMetricFamily("jobrunner_queue_paused", "Whether the queue is paused.", labels=("queue",))
    for queue in queues.all_queues(connection):
        paused.add_metric((queue.name,), queue.paused_since is not None)
        for state, count in queue.jobs.items():
            held.add_metric((queue.name, state), count)
    yield held
    yield paused
    oldest = jobs.oldest_queued_at(connection)
    age = 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())
    yield GaugeMetricFamily("jobrunner_oldest_queued_seconds", "Age of the queued job of the lowest id.", age)


def _of_dispatchers(alive: list[Dispatcher], now: datetime) -> Iterator[Metric]:
    one = ("dispatcher",)
    heartbeat = GaugeMetricFamily(
        "jobrunner_dispatcher_heartbeat_age_seconds", "Since its last sign of life.", labels=(*one, "host")
    )
    workers = GaugeMetricFamily("jobrunner_workers", "Workers.", labels=one)
    busy = GaugeMetricFamily("jobrunner_workers_busy", "Workers with a job in hand.", labels=one)
    ended = CounterMetricFamily(
        "jobrunner_attempts", "Attempts that succeeded or failed, since it started.", labels=(*one, "outcome")
    )
    partials = CounterMetricFamily(
        "jobrunner_partials", "Partial results and values of map jobs, since it started.", labels=one
    )
    worked = CounterMetricFamily(
        "jobrunner_busy_seconds", "Time that its workers had jobs in hand.", labels=one
    )
    for dispatcher in alive:
        name = (str(dispatcher.id),)
        slots = json.loads(dispatcher.slots)
        age = max(0.0, (now - dispatcher.heartbeat_at).total_seconds())
        heartbeat.add_metric((*name, dispatcher.host), age)
        workers.add_metric(name, dispatcher.workers)
        busy.add_metric(name, sum(slot["job_id"] is not None for slot in slots))
        for outcome, field in (("succeeded", "done"), ("failed", "failed")):
            ended.add_metric((*name, outcome), sum(slot[field] for slot in slots))
        partials.add_metric(name, sum(slot["partials"] for slot in slots))
        worked.add_metric(name, sum(slot["busy_seconds"] for slot in slots))
    yield from (heartbeat, workers, busy, ended, partials, worked)


def _of_store(api: Api) -> Iterator[Metric]:
    size = api.store.path.stat().st_size
    yield GaugeMetricFamily("jobrunner_store_bytes", "Size of the database file.", size)
    yield GaugeMetricFamily("jobrunner_wal_bytes", "Size of the write-ahead log.", api.store.wal_bytes())
