"""Waiting for news of a job: what ends a wait, and what it then answers."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from jobrunner.api.waiting import until
from jobrunner.lifecycle import Ending
from jobrunner.reports import EventKind
from jobrunner.store.lookout import Standing
from jobrunner.wakeup import WATCHERS, wake
from tests.api.world import World, made_in, problem
from tests.waiting import eventually

LONG = {"Prefer": "wait=60"}


class Waits:
    """Requests that wait, each in a thread of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._threads = ThreadPoolExecutor(16)

    def begin(self, method: str, path: str, **more: Any) -> "Future[TestResponse]":
        """Send a request; return once it has a place among those who wait."""
        before = self.world.app.watcher.waiting
        client = self.world.app.test_client()
        future = self._threads.submit(lambda: client.open(path, method=method, **more))
        eventually(lambda: future.done() or self.world.app.watcher.waiting > before)
        return future

    def close(self) -> None:
        self.world.app.watcher.close()
        self._threads.shutdown()


@pytest.fixture
def waits(world: World) -> Iterator[Waits]:
    made = Waits(world)
    yield made
    made.close()


# -- what ends a wait -------------------------------------------------------------------------------


def test_who_waits_without_a_tag_is_answered_when_the_job_is_final(world: World, waits: Waits) -> None:
    job_id = world.submit()
    waiting = waits.begin("GET", f"/jobs/{job_id}?wait=60")
    world.claim()
    world.say(job_id, (EventKind.PROGRESS, '{"done":1,"total":2,"message":null}'))
    assert not waiting.done()
    world.end(job_id, Ending.SUCCEEDED, result=7)
    answer = waiting.result(20)
    assert (answer.status_code, answer.get_json()["state"], answer.get_json()["result"]) == (
        200,
        "succeeded",
        7,
    )


def test_who_waits_with_a_tag_is_answered_at_the_next_version(world: World, waits: Waits) -> None:
    job_id = world.submit()
    tag = world.client.get(f"/jobs/{job_id}").headers["ETag"]
    waiting = waits.begin("GET", f"/jobs/{job_id}", headers={**LONG, "If-None-Match": tag})
    world.claim()
    answer = waiting.result(20)
    assert (answer.status_code, answer.get_json()["state"]) == (200, "running")
    assert answer.headers["ETag"] != tag
    assert answer.headers["Preference-Applied"] == "wait=60"


def test_who_knows_an_old_version_does_not_wait(world: World, waits: Waits) -> None:
    job_id = world.running()
    answer = waits.begin("GET", f"/jobs/{job_id}", headers={**LONG, "If-None-Match": '"1"'}).result(20)
    assert answer.get_json()["state"] == "running"


@pytest.mark.parametrize("path", ["", "/result"])
def test_a_final_job_keeps_nobody_waiting(world: World, waits: Waits, path: str) -> None:
    answer = waits.begin("GET", f"/jobs/{world.succeeded(7)}{path}", headers=LONG).result(20)
    assert answer.status_code == 200


def test_when_time_is_up_the_answer_is_what_there_is(world: World) -> None:
    job_id = world.running()
    shown = world.client.get(f"/jobs/{job_id}?wait=1")
    assert (shown.status_code, shown.get_json()["state"]) == (200, "running")
    assert shown.headers["Retry-After"] == "1"
    headers = {"If-None-Match": shown.headers["ETag"], "Prefer": "wait=1"}
    assert world.client.get(f"/jobs/{job_id}", headers=headers).status_code == 304
    problem(world.client.get(f"/jobs/{job_id}/result?wait=1"), 409, "not-finished")


def test_the_result_comes_when_it_is_there(world: World, waits: Waits) -> None:
    job_id = world.running()
    waiting = waits.begin("GET", f"/jobs/{job_id}/result", headers=LONG)
    world.end(job_id, Ending.SUCCEEDED, result=[1, 2])
    assert waiting.result(20).get_json() == [1, 2]


def test_who_waits_for_a_result_is_told_of_a_failure(world: World, waits: Waits) -> None:
    job_id = world.running()
    waiting = waits.begin("GET", f"/jobs/{job_id}/result", headers=LONG)
    world.end(job_id, Ending.EXCEPTION)
    assert problem(waiting.result(20), 409, "job-failed")["error"]["kind"] == "exception"


def test_who_waits_for_partial_results_is_answered_at_the_first_after_those_he_has(
    world: World, waits: Waits
) -> None:
    job_id = world.running()
    world.say(job_id, (EventKind.PARTIAL, "1"))
    first = world.client.get(f"/jobs/{job_id}/partials?wait=60").get_json()
    waiting = waits.begin("GET", f"/jobs/{job_id}/partials?after={first['next_after']}&wait=60")
    world.say(job_id, (EventKind.LOG, "no partial result"))
    assert not waiting.done()
    world.say(job_id, (EventKind.PARTIAL, "2"))
    # Unwoken he would look again after ten seconds.
    assert [one["value"] for one in waiting.result(7).get_json()["items"]] == [2]


def test_who_looks_longer_is_asked_again_at_each_news_until_it_is_enough(world: World) -> None:
    job_id = world.running()
    asked: list[int] = []

    def is_enough(standing: Standing) -> bool:
        asked.append(standing.version)
        return standing.version >= 5

    def wait() -> None:
        with world.app.test_request_context("/jobs"):
            until(job_id, is_enough, 60, is_news=lambda standing: standing.version >= 4)

    with ThreadPoolExecutor(1) as threads:
        waits = threads.submit(wait)
        eventually(lambda: asked == [2])
        world.say(job_id, (EventKind.PARTIAL, "3"))  # which is no news to him
        world.say(job_id, (EventKind.PARTIAL, "4"))
        eventually(lambda: asked == [2, 4])
        world.say(job_id, (EventKind.PARTIAL, "5"))
        waits.result(20)
    assert asked == [2, 4, 5]


def test_who_waits_for_partial_results_is_told_when_no_more_will_come(world: World, waits: Waits) -> None:
    job_id = world.running()
    waiting = waits.begin("GET", f"/jobs/{job_id}/partials?wait=60")
    world.end(job_id, Ending.SUCCEEDED)
    page = waiting.result(20).get_json()
    assert (page["items"], page["complete"]) == ([], True)


def test_a_submission_may_wait_for_its_result(world: World, waits: Waits) -> None:
    waiting = waits.begin("POST", "/jobs", json={"task": "demo.nothing"}, headers=LONG)
    (claimed,) = eventually(world.claim)
    world.end(claimed.id, Ending.SUCCEEDED, result=7)
    answer = waiting.result(20)
    assert (answer.status_code, answer.get_json()["result"]) == (200, 7)
    assert (answer.headers["Location"], answer.headers["Preference-Applied"]) == ("/jobs/1", "wait=60")


def test_a_submission_whose_job_takes_longer_is_accepted(world: World) -> None:
    answer = world.client.post("/jobs?wait=1", json={"task": "demo.nothing"})
    assert (answer.status_code, answer.get_json()["state"]) == (202, "queued")


def test_a_submission_that_is_sent_again_waits_as_well(world: World, waits: Waits) -> None:
    headers = {**LONG, "Idempotency-Key": "k"}
    first, again = (
        waits.begin("POST", "/jobs", json={"task": "demo.nothing"}, headers=headers) for _ in "12"
    )
    for one in world.claim():
        world.end(one.id, Ending.SUCCEEDED, result=7)
    answers = [first.result(20), again.result(20)]
    assert [one.status_code for one in answers] == [200, 200]
    assert ["Idempotency-Replayed" in one.headers for one in answers] == [False, True]


def test_who_waits_for_a_job_that_is_deleted_is_told(world: World, waits: Waits) -> None:
    job_id = world.succeeded()
    tag = world.client.get(f"/jobs/{job_id}").headers["ETag"]
    waiting = waits.begin("GET", f"/jobs/{job_id}", headers={**LONG, "If-None-Match": tag})
    assert world.client.delete(f"/jobs/{job_id}").status_code == 204
    problem(waiting.result(20), 404, "job-not-found")


def test_nobody_waits_for_a_job_that_is_not_there(world: World, waits: Waits) -> None:
    for path in ("", "/result", "/partials"):
        problem(waits.begin("GET", f"/jobs/999{path}?wait=60").result(20), 404, "job-not-found")


# -- how it is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefer", ["wait=1", "WAIT=1", 'wait="1"', "respond-async, wait=1", "respond-async;x=y,wait = 1; foo"]
)
def test_a_preference_may_be_written_as_rfc_7240_allows(world: World, prefer: str) -> None:
    answer = world.client.get(f"/jobs/{world.succeeded()}", headers={"Prefer": prefer})
    assert answer.headers["Preference-Applied"] == "wait=1"


@pytest.mark.parametrize(
    "prefer", ["", "wait", "wait=", "wait=-1", "wait=1.5", "wait=x", "await=1", "wait=1x"]
)
def test_a_preference_that_is_not_understood_is_passed_over(world: World, prefer: str) -> None:
    answer = world.client.get(f"/jobs/{world.running()}", headers={"Prefer": prefer})
    assert answer.status_code == 200
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize("wait", ["-1", "x", "1.5", ""])
def test_a_wait_in_the_query_that_is_not_understood_is_refused(world: World, wait: str) -> None:
    problem(world.client.get(f"/jobs/{world.running()}?wait={wait}"), 400, "invalid-query")


def test_nobody_waits_longer_than_max_wait(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_wait=1)
    assert world.client.get(f"/jobs/{world.running()}?wait=999999").get_json()["state"] == "running"
    world.close()


# -- limits, and the end ----------------------------------------------------------------------------


def test_who_finds_no_place_among_those_who_wait_is_answered_at_once(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_waiting=1)
    waits = Waits(world)
    job_id = world.running()
    waiting = waits.begin("GET", f"/jobs/{job_id}?wait=60")
    answer = world.client.get(f"/jobs/{job_id}?wait=60")
    assert (answer.status_code, answer.headers["Retry-After"]) == (200, "1")
    told = problem(world.client.get(f"/jobs/{job_id}/events"), 503, "too-many-waiting")
    assert "max_waiting is 1" in told["detail"]
    assert not waiting.done()
    world.end(job_id, Ending.SUCCEEDED)
    assert waiting.result(20).status_code == 200
    assert world.client.get(f"/jobs/{job_id}/events").status_code == 200
    waits.close()
    world.close()


def test_when_the_process_is_about_to_end_all_who_wait_are_answered(world: World, waits: Waits) -> None:
    job_id = world.running()
    waiting = [waits.begin("GET", f"/jobs/{job_id}?wait=60") for _ in range(5)]
    world.app.watcher.close()
    assert [one.result(20).get_json()["state"] for one in waiting] == ["running"] * 5
    assert world.client.get(f"/jobs/{job_id}?wait=60").status_code == 200, "and nobody waits any more"


def test_one_thread_looks_for_all_and_ends_when_nobody_waits(
    world: World, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.api.watcher.IDLE_SECONDS", 0.05)

    def watchers() -> int:  # of other tests' too, for a moment
        return sum(thread.name == "watcher" for thread in threading.enumerate())

    ids = [world.submit() for _ in range(10)]
    waiting = [waits.begin("GET", f"/jobs/{job_id}?wait=60") for job_id in ids]
    eventually(lambda: watchers() == 1)
    for job_id in ids:
        world.client.post(f"/jobs/{job_id}/cancel")
    assert [one.result(20).get_json()["state"] for one in waiting] == ["cancelled"] * 10
    eventually(lambda: watchers() == 0)
    assert list((world.settings.data / WATCHERS).iterdir()) == []
    job_id = world.running()
    again = waits.begin("GET", f"/jobs/{job_id}?wait=60")
    world.end(job_id, Ending.SUCCEEDED)
    assert again.result(20).get_json()["state"] == "succeeded"


def test_a_bell_brings_news_before_the_next_look(
    world: World, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.api.watcher.LOOK_SECONDS", 3600.0)
    job_id = world.running()
    waiting = waits.begin("GET", f"/jobs/{job_id}?wait=60")
    eventually(lambda: list((world.settings.data / WATCHERS).glob("*.sock")))
    world.end(job_id, Ending.SUCCEEDED)
    wake(world.settings.data / WATCHERS)
    assert waiting.result(20).get_json()["state"] == "succeeded"
