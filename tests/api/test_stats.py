from datetime import timedelta
from typing import Any

import pytest

from jobrunner.clock import utc_now
from jobrunner.store import dispatchers, throughput
from jobrunner.store.throughput import Sample
from tests.api.world import World


def stats(world: World) -> Any:
    answer = world.client.get("/stats")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_jobs_are_counted_by_state(world: World) -> None:
    assert stats(world)["jobs"] == dict.fromkeys(("queued", "running", "succeeded", "failed", "cancelled"), 0)
    world.succeeded()
    world.failed()
    world.cancelled()
    world.running()
    world.submit()
    world.submit()
    counts = {"queued": 2, "running": 1, "succeeded": 1, "failed": 1, "cancelled": 1}
    assert stats(world)["jobs"] == counts


def test_the_oldest_queued_job_has_an_age(world: World) -> None:
    assert stats(world)["oldest_queued_seconds"] is None
    world.submit()
    assert 0 <= stats(world)["oldest_queued_seconds"] < 60


def test_rates_are_means_over_one_five_and_fifteen_minutes(world: World) -> None:
    now = utc_now()
    with world.store.write(durable=False) as connection:
        for minutes_ago in (0.5, 3, 10, 20):
            at = now - timedelta(minutes=minutes_ago)
            throughput.add(connection, world.dispatcher_id, Sample(at, 1.0, 300, 30, 900, 60.0))
    one, five, fifteen = stats(world)["rates"]
    assert (one["minutes"], five["minutes"], fifteen["minutes"]) == (1, 5, 15)
    assert one["done_per_second"] == pytest.approx(300 / 60)
    assert five["failed_per_second"] == pytest.approx(60 / 300)
    assert fifteen["partials_per_second"] == pytest.approx(2700 / 900)
    assert one["busy_workers"] == pytest.approx(1.0)


def test_each_dispatcher_shows_its_slots_and_its_heartbeat(world: World) -> None:
    slots: list[dict[str, Any]] = [
        {"worker": 0, "pid": 77, "job_id": 5},
        {"worker": 1, "pid": 78, "job_id": None},
    ]
    with world.store.write(durable=False) as connection:
        dispatchers.heartbeat(connection, world.dispatcher_id, slots=slots, now=utc_now())
    [dispatcher] = stats(world)["dispatchers"]
    assert dispatcher["slots"] == slots
    assert (dispatcher["id"], dispatcher["workers"], dispatcher["alive"]) == (world.dispatcher_id, 2, True)
    assert 0 <= dispatcher["heartbeat_age_seconds"] < 60


def test_a_dispatcher_that_fell_silent_is_shown_as_that(world: World) -> None:
    world.dispatcher_falls_silent()
    [dispatcher] = stats(world)["dispatchers"]
    assert not dispatcher["alive"]
    assert dispatcher["heartbeat_age_seconds"] > world.settings.lease_seconds


def test_a_dispatcher_that_has_ended_is_not_shown(world: World) -> None:
    with world.store.write(durable=False) as connection:
        dispatchers.end(connection, world.dispatcher_id, now=utc_now())
    assert stats(world)["dispatchers"] == []
