"""Many jobs at a time: which have finished, and cancelling those that have not begun."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobrunner.api import waiting
from jobrunner.api.naming_fields import Ids
from jobrunner.lifecycle import Ending
from jobrunner.store.jobs import LISTED_RESULT_CHARACTERS
from tests.api.world import World, pointers, problem
from tests.waiting import eventually

RUN = {"run": "a"}


def _run(world: World, number: int) -> list[int]:
    """Return so many jobs of the run, all running."""
    ids = [world.submit(labels=RUN) for _ in range(number)]
    world.claim()
    return ids


def _finished(world: World, query: str = "label=run:a") -> list[dict[str, Any]]:
    answer = world.client.get(f"/jobs/finished?{query}")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.get_json()["items"]
    return items


# -- which have finished ---------------------------------------------------------------------------


def test_final_jobs_with_the_label_are_told_in_short(world: World) -> None:
    good, bad, running = _run(world, 3)
    queued = world.submit(labels=RUN)
    world.end(good, Ending.SUCCEEDED, result={"a": 1})
    world.end(bad, Ending.EXCEPTION)
    world.client.post(f"/jobs/{queued}/cancel")
    world.succeeded()  # without the label
    one, two, three = sorted(_finished(world), key=lambda item: item["id"])
    assert one == {"id": good, "state": "succeeded", "attempt": 1, "result": {"a": 1}, "error": None}
    assert (two["id"], two["state"], two["result"], two["error"]["kind"]) == (
        bad,
        "failed",
        None,
        "exception",
    )
    assert three == {"id": queued, "state": "cancelled", "attempt": 0, "result": None, "error": None}
    assert running not in {one["id"], two["id"], three["id"]}


def test_another_value_of_the_label_is_another_label(world: World) -> None:
    (job_id,) = _run(world, 1)
    world.end(job_id, Ending.SUCCEEDED)
    assert _finished(world, "label=run:b") == []
    assert _finished(world, "label=ran:a") == []


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ("1-", [1, 2, 3, 4]),
        ("2-3", [2, 3]),
        ("1,4", [1, 4]),
        ("3-2", []),
        ("5-,2", [2]),
        ("2-,4-", [2, 3, 4]),
    ],
)
def test_ids_narrow_it_to_ranges(world: World, ids: str, found: list[int]) -> None:
    for job_id in _run(world, 4):
        world.end(job_id, Ending.SUCCEEDED)
    assert sorted(item["id"] for item in _finished(world, f"label=run:a&ids={ids}")) == found


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5", [(5, 5)]),
        ("20-,8-12,5-9,4,1-3", [(1, 12), (20, 10**18 - 1)]),
        (",".join(f"{first}-" for first in range(1, 91)), [(1, 10**18 - 1)]),
        ("2-9,3-4,11-", [(2, 9), (11, 10**18 - 1)]),
        ("3-2,7-6", []),
    ],
)
def test_ranges_that_overlap_or_touch_are_asked_for_once(written: str, meant: list[tuple[int, int]]) -> None:
    assert Ids(100).read(written) == meant


def test_there_are_no_more_than_the_limit(world: World) -> None:
    for job_id in _run(world, 4):
        world.end(job_id, Ending.SUCCEEDED)
    assert len(_finished(world, "label=run:a&limit=3&ids=1-2,3-4")) == 3


def test_a_long_result_is_left_out_and_null_is_not(world: World) -> None:
    long, null = _run(world, 2)
    world.end(long, Ending.SUCCEEDED, result="x" * LISTED_RESULT_CHARACTERS)
    world.end(null, Ending.SUCCEEDED)
    results = {item["id"]: item.get("result", "left out") for item in _finished(world)}
    assert results == {long: "left out", null: None}


@pytest.mark.parametrize(
    "query",
    ["", "ids=1", "label=run", "label=run:a&ids=", "label=run:a&ids=0", "label=run:a&ids=-3"]
    + [f"label=run:a&ids={ids}" for ids in ("1,,2", "a", "1-2-3", "1 ", "9" * 19, ",".join("1" * 1001))]
    + ["label=run:a&limit=0", "label=run:a&limit=1001", "label=run:a&after=1", "label=run:a&wait=-1"],
)
def test_what_asks_for_something_else_is_refused(world: World, query: str) -> None:
    problem(world.client.get(f"/jobs/finished?{query}"), 400, "invalid-query")


def test_who_waits_is_answered_when_one_of_them_is_final(world: World) -> None:
    (job_id,) = _run(world, 1)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(world.app.test_client().get, "/jobs/finished?label=run:a&wait=60")
        eventually(lambda: world.app.watcher._waiters)
        world.succeeded()  # somebody else's
        assert not waiting.done()
        world.end(job_id, Ending.SUCCEEDED, result=7)
        # Unwoken it would look again after ten seconds.
        assert [item["result"] for item in waiting.result(7).get_json()["items"]] == [7]


def test_who_waits_for_nothing_is_told_of_nothing_when_time_is_up(world: World) -> None:
    assert _finished(world, "label=run:a&wait=1") == []


def test_nobody_waits_when_the_service_is_about_to_end(world: World) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(world.app.test_client().get, "/jobs/finished?label=run:a&wait=60")
        eventually(lambda: world.app.watcher._waiters)
        world.app.watcher.close()
        assert waiting.result(20).get_json() == {"items": []}


def test_who_waits_looks_again_only_when_something_was_committed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.api.watcher.LOOK_SECONDS", 0.001)
    looks = 0

    def look() -> list[int]:
        nonlocal looks
        looks += 1
        return []

    with world.app.test_request_context("/jobs/finished"):
        waiting.until_some(look, 1.0)  # a thousand rings or so
    assert looks <= 3, "at first, when the watcher begins, and at the end"


def test_looks_that_take_long_are_made_more_rarely(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrunner.api.waiting.LOOKING_SHARE", 0.1)
    looks = 0

    def look() -> list[int]:
        nonlocal looks
        looks += 1
        world.store.try_to_write()  # as busy as can be: there is always something new
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return []

    with world.app.test_request_context("/jobs/finished"):
        waiting.until_some(look, 2.0)
    assert 2 <= looks <= 11, "a tenth of two seconds, at 20 ms each, and the last one"


# -- cancelling ------------------------------------------------------------------------------------


def test_of_many_jobs_those_are_cancelled_that_are_queued(world: World) -> None:
    running, failed, cancelled = world.running(), world.failed(), world.cancelled()
    queued = [world.submit(), world.submit(delay_seconds=3600)]
    asked = {"ids": [*queued, running, failed, cancelled, 999_999]}
    answer = world.client.post("/jobs/cancel", json=asked)
    assert (answer.status_code, answer.get_json()) == (200, {"ids": queued})
    states = {job_id: world.show(job_id)["state"] for job_id in (*queued, running, failed)}
    assert states == {**dict.fromkeys(queued, "cancelled"), running: "running", failed: "failed"}
    assert world.client.post("/jobs/cancel", json=asked).get_json() == {"ids": []}


def test_each_that_was_cancelled_has_it_in_its_history(world: World) -> None:
    job_id = world.submit()
    before = world.show(job_id)["version"]
    world.client.post("/jobs/cancel", json={"ids": [job_id, job_id]})
    shown = world.show(job_id)
    assert shown["version"] == before + 1
    assert shown["finished_at"] is not None
    told = world.client.get(f"/jobs/{job_id}/events?after={before}").text
    assert '"state":"cancelled"' in told


def test_a_cancelled_one_can_be_asked_for_again(world: World) -> None:
    job_id = world.submit()
    world.client.post("/jobs/cancel", json={"ids": [job_id]})
    assert world.client.post(f"/jobs/{job_id}/retry").status_code == 202
    assert job_id in [one.id for one in world.claim()]


@pytest.mark.parametrize(
    "ids", [None, "1", [True], [0], ["1"], [1.5], [10**18], list(range(1, 10_002)), {"1": 1}]
)
def test_what_is_no_list_of_ids_is_refused(world: World, ids: Any) -> None:
    told = problem(world.client.post("/jobs/cancel", json={"ids": ids}), 422, "invalid-fields")
    assert pointers(told) == ["#/ids"]


def test_ids_must_be_given(world: World) -> None:
    told = problem(world.client.post("/jobs/cancel", json={"all": True}), 422, "invalid-fields")
    assert set(pointers(told)) == {"#/ids", "#/all"}
