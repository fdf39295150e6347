import json
import time
from pathlib import Path
from typing import Any

import pytest

from jobrunner.api import body, published, submissions
from jobrunner.api.pointers import MAX_ERRORS
from jobrunner.clock import utc_now
from tests.api.world import World, made_in, pointers, problem


def test_a_batch_is_stored_in_its_order(world: World) -> None:
    answer = world.client.post(
        "/jobs/batch", json=[{"task": "demo.nothing", "params": {"n": n}} for n in range(100)]
    )
    assert answer.status_code == 202
    ids = answer.get_json()["ids"]
    assert ids == sorted(ids)
    assert [world.show(one)["params"]["n"] for one in ids[::20]] == [0, 20, 40, 60, 80]
    assert world.count() == 100


def test_each_job_of_a_batch_has_its_own_task_and_options(world: World) -> None:
    batch = [
        {"task": "demo.train", "params": {"dataset": "d"}, "labels": {"n": "0"}},
        {"task": "demo.nothing", "priority": 3, "delay_seconds": 60},
    ]
    first, second = world.client.post("/jobs/batch", json=batch).get_json()["ids"]
    assert (world.show(first)["queue"], world.show(first)["labels"]) == ("slow", {"n": "0"})
    assert (world.show(second)["priority"], world.show(second)["reason"]) == (3, "scheduled")


def test_one_bad_job_refuses_the_whole_batch_and_is_pointed_at(world: World) -> None:
    batch: list[Any] = [{"task": "demo.nothing"} for _ in range(5)]
    batch[3] = {"task": "demo.nothing", "params": {"x": 1}}
    told = problem(world.client.post("/jobs/batch", json=batch), 422, "invalid-fields")
    assert pointers(told) == ["#/3/params/x"]
    assert world.count() == 0


def test_the_flaws_of_all_jobs_are_told_in_their_order(world: World) -> None:
    batch: list[Any] = [
        {"task": "no.such", "queue": ""},
        5,
        {"task": "demo.nothing"},
        {"task": "demo.nothing", "params": {"n": "x"}, "foo": 1},
        {},
    ]
    told = problem(world.client.post("/jobs/batch", json=batch), 422, "invalid-fields")
    assert pointers(told) == ["#/0/queue", "#/0/task", "#/1", "#/3/foo", "#/3/params/n", "#/4/task"]
    assert world.count() == 0


@pytest.mark.parametrize("sent", [[], {}, {"task": "demo.nothing"}, None, "x", 5])
def test_what_is_no_list_of_jobs_is_422(world: World, sent: Any) -> None:
    answer = world.client.post("/jobs/batch", data=json.dumps(sent), content_type="application/json")
    assert pointers(problem(answer, 422, "invalid-fields")) == ["#"]


def test_a_batch_larger_than_allowed_is_refused_by_the_setting_s_name(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_batch=3)
    assert world.client.post("/jobs/batch", json=[{"task": "demo.nothing"}] * 3).status_code == 202
    told = problem(
        world.client.post("/jobs/batch", json=[{"task": "demo.nothing"}] * 4), 413, "batch-too-large"
    )
    assert "max_batch is 3" in told["detail"]
    assert world.count() == 3
    world.close()


def test_a_batch_that_does_not_fit_the_queue_is_refused_as_a_whole(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_queued=3)
    world.submit()
    answer = world.client.post("/jobs/batch", json=[{"task": "demo.nothing"}] * 3)
    told = problem(answer, 503, "queue-full")
    assert "1 jobs are queued, max_queued is 3" in told["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    assert world.count() == 1
    assert world.client.post("/jobs/batch", json=[{"task": "demo.nothing"}] * 2).status_code == 202
    problem(world.client.post("/jobs/batch", json=[{"task": "demo.nothing"}]), 503, "queue-full")
    world.claim()  # what runs is not queued
    assert world.client.post("/jobs/batch", json=[{"task": "demo.nothing"}] * 3).status_code == 202
    world.close()


def test_ten_thousand_flawed_jobs_are_answered_with_the_first_hundred_flaws(world: World) -> None:
    batch = [{"task": f"no.such.{n}", "priority": "x", "foo": 1} for n in range(10_000)]
    told = problem(world.client.post("/jobs/batch", json=batch), 422, "invalid-fields")
    assert len(told["errors"]) == MAX_ERRORS
    assert told["errors"][0]["pointer"] == "#/0/priority"


def test_ten_thousand_jobs_are_checked_in_a_fraction_of_a_second(world: World) -> None:
    sent = json.dumps([{"task": "demo.nothing", "params": {"n": n}} for n in range(10_000)]).encode()
    with world.store.read() as connection:
        shelf = published.find(connection, ["demo.nothing"])
    before = time.process_time()  # of this process alone: the machine may be busy
    limits = submissions.Limits(max_params_bytes=1 << 20, max_items=10)
    checked = submissions.checked(body.parse(sent), shelf, single=False, limits=limits, now=utc_now())
    assert time.process_time() - before < 0.8  # some 0.2 s when nothing else runs
    assert len(checked) == 10_000
