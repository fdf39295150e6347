import itertools
import time
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


def series(world: World, query: str) -> Any:
    answer = world.client.get(f"/stats/series?{query}")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_a_series_has_columns_of_one_length_up_to_the_last_whole_step(world: World) -> None:
    now = utc_now()
    with world.store.write(durable=False) as connection:
        throughput.add(
            connection, world.dispatcher_id, Sample(now - timedelta(seconds=30), 1.0, 5, 2, 0, 20.0, 9)
        )
    before = time.time()
    told = series(world, "window=60&step=10")
    assert set(told) == {"step_seconds", "t", "done", "failed", "queued", "busy"}
    assert told["step_seconds"] == 10
    assert [after - at for at, after in itertools.pairwise(told["t"])] == [10] * 5
    assert before - 10 < told["t"][-1] <= time.time()
    assert (sum(told["done"]), sum(told["failed"]), max(told["busy"])) == (5, 2, 2.0)
    at = told["done"].index(5)
    assert told["queued"] == [None] * at + [9] * (6 - at)


@pytest.mark.parametrize(
    ("query", "step_seconds", "steps"),
    [
        ("", 30, 120),
        ("window=60", 1, 60),
        ("window=60&step=7", 7, 8),
        ("window=5&step=60", 60, 1),
        ("window=3601&step=1", 10, 360),
        ("window=3600&step=1", 2, 1800),
        ("window=86401&step=15", 60, 1440),
        ("window=7776000&step=1", 3900, 1993),
    ],
)
def test_a_step_is_never_finer_than_the_samples_nor_are_there_too_many(
    world: World, query: str, step_seconds: int, steps: int
) -> None:
    told = series(world, query)
    assert (told["step_seconds"], len(told["t"])) == (step_seconds, steps)


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
