from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from jobrunner.clock import utc_now
from jobrunner.store import dispatchers
from tests.api.world import World

SLOT: dict[str, Any] = {
    "worker": 0,
    "job_id": None,
    "done": 3,
    "failed": 1,
    "partials": 7,
    "busy_seconds": 1.5,
}


def samples(world: World, **labels: str) -> dict[str, float]:
    """Return the samples that have these labels and no others, by name."""
    answer = world.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    families = openmetrics(answer.text)  # type: ignore[no-untyped-call]
    found = [sample for family in families for sample in family.samples]
    return {sample.name: sample.value for sample in found if sample.labels == labels}


def test_jobs_are_counted_by_queue_and_state(world: World) -> None:
    world.succeeded()
    world.submit(queue="night")
    world.submit(queue="night")
    world.client.patch("/queues/night", json={"paused": True})
    assert samples(world, queue="night", state="queued") == {"jobrunner_jobs": 2}
    assert samples(world, queue="default", state="succeeded") == {"jobrunner_jobs": 1}
    assert samples(world, queue="night") == {"jobrunner_queue_paused": 1}
    assert samples(world, queue="default") == {"jobrunner_queue_paused": 0}


def test_each_dispatcher_tells_of_its_workers(world: World) -> None:
    slots = [SLOT, SLOT | {"worker": 1, "job_id": 5}]
    with world.store.write(durable=False) as connection:
        dispatchers.heartbeat(connection, world.dispatcher_id, slots=slots, now=utc_now())
    mine = {"dispatcher": str(world.dispatcher_id)}
    assert samples(world, **mine) == {
        "jobrunner_workers": 2,
        "jobrunner_workers_busy": 1,
        "jobrunner_partials_total": 14,
        "jobrunner_busy_seconds_total": 3.0,
    }
    assert samples(world, **mine, outcome="succeeded") == {"jobrunner_attempts_total": 6}
    assert samples(world, **mine, outcome="failed") == {"jobrunner_attempts_total": 2}
    (age,) = samples(world, **mine, host="here").values()
    assert 0 <= age < 60


def test_the_whole_has_gauges_of_its_own(world: World) -> None:
    world.submit()
    found = samples(world)
    assert found["jobrunner_api_waiting"] == 0
    assert 0 <= found["jobrunner_oldest_queued_seconds"] < 60
    assert found["jobrunner_store_bytes"] == world.app.store.path.stat().st_size
    assert found["jobrunner_wal_bytes"] == world.app.store.wal_bytes()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("text/plain; version=0.0.4", "text/plain"),
        ("*/*", "text/plain"),
        (None, "application/openmetrics-text"),
    ],
)
def test_the_scraper_chooses_the_format(world: World, accept: str | None, kind: str) -> None:
    answer = world.client.get("/metrics", headers={} if accept is None else {"Accept": accept})
    assert answer.mimetype == kind
    parse = prometheus if kind == "text/plain" else openmetrics
    assert "jobrunner_jobs" in {family.name for family in parse(answer.text)}
