from datetime import datetime, timedelta
from typing import Any

import pytest

from jobrunner.clock import utc_now
from jobrunner.lifecycle import Ending
from jobrunner.reports import EventKind
from jobrunner.store import jobs
from tests.api.world import OFFERED, World, problem

FIELDS = {
    *("id", "task", "params", "state", "reason", "progress", "map", "partials", "result", "error", "attempt"),
    *("priority", "queue", "labels", "created_at", "run_at", "started_at", "finished_at"),
    *("waited_seconds", "ran_seconds", "version", "links"),
    *("timeout", "retries", "crash_retries", "memory_limit"),
}


def test_a_job_has_the_fields_that_were_promised(world: World) -> None:
    assert world.show(world.submit()).keys() == FIELDS


def test_every_link_of_a_job_leads_somewhere(world: World) -> None:
    links = world.show(world.submit())["links"]
    assert links.keys() == {"self", "result", "partials", "log", "events", "cancel"}
    assert world.client.head(links.pop("result")).status_code == 409
    cancel = links.pop("cancel")
    assert all(world.client.head(link).status_code == 200 for link in links.values())
    assert world.client.post(cancel).status_code == 200


def test_a_queued_job(world: World) -> None:
    job = world.show(world.submit())
    assert (job["state"], job["reason"]) == ("queued", "waiting for a worker")
    assert (job["started_at"], job["finished_at"], job["ran_seconds"]) == (None, None, None)
    assert 0 <= job["waited_seconds"] < 60


def test_a_running_job(world: World) -> None:
    job_id = world.running()
    world.say(job_id, (EventKind.PROGRESS, '{"done": 7, "total": 20, "message": "epoch 7"}'))
    job = world.show(job_id)
    assert (job["state"], job["reason"], job["attempt"]) == ("running", None, 1)
    assert job["progress"] == {"done": 7, "total": 20, "message": "epoch 7"}
    assert job["finished_at"] is None
    assert 0 <= job["ran_seconds"] < 60
    assert 0 <= job["waited_seconds"] < 60


def test_a_succeeded_job(world: World) -> None:
    job = world.show(world.succeeded({"accuracy": 0.9, "é": [None]}))
    assert (job["state"], job["reason"], job["error"]) == ("succeeded", None, None)
    assert job["result"] == {"accuracy": 0.9, "é": [None]}
    started, finished = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    assert job["ran_seconds"] == pytest.approx((finished - started).total_seconds())


def test_a_failed_job_is_data_not_an_error(world: World) -> None:
    job = world.show(world.failed())
    assert (job["state"], job["result"]) == ("failed", None)
    assert job["error"]["kind"] == "exception"
    assert job["error"]["message"] == "so it went"


def test_a_cancelled_job(world: World) -> None:
    job = world.show(world.cancelled())
    assert (job["state"], job["reason"], job["ran_seconds"]) == ("cancelled", None, None)
    assert job["finished_at"]


def test_a_job_that_failed_with_a_retry_left_backs_off(world: World) -> None:
    while True:  # the wait is drawn by lot from 0 to 1 s, and may be over at once
        job_id = world.running(retries=5)
        world.end(job_id, Ending.EXCEPTION)
        with world.store.read() as connection:
            due_at = jobs.get(connection, job_id).due_at
        if due_at and due_at > utc_now() + timedelta(seconds=0.3):
            break
    job = world.show(job_id)
    assert (job["state"], job["reason"], job["attempt"]) == ("queued", "backing off", 1)
    assert job["ran_seconds"] is None


def test_a_lost_job_that_goes_on_at_once_waits_for_a_worker(world: World) -> None:
    job_id = world.running()
    world.end(job_id, Ending.LOST)
    job = world.show(job_id)
    assert (job["state"], job["reason"]) == ("queued", "waiting for a worker")


def test_a_job_that_is_being_stopped_says_so(world: World) -> None:
    job_id = world.running()
    world.client.post(f"/jobs/{job_id}/cancel")
    assert world.show(job_id)["reason"] == "stopping"


def test_a_job_whose_dispatcher_fell_silent_says_that_there_is_none(world: World) -> None:
    job_id = world.submit()
    world.dispatcher_falls_silent()
    assert world.show(job_id)["reason"] == "no dispatcher"


def test_a_job_whose_task_nobody_serves_any_more_says_so(world: World) -> None:
    job_id = world.submit()
    world.publish([])
    assert world.show(job_id)["reason"] == "no dispatcher has its task"


def test_a_job_whose_only_dispatcher_fell_silent_says_so_beside_others(world: World) -> None:
    job_id, others = world.submit("demo.nothing"), world.submit("demo.train", params={"dataset": "d"})
    world.start_dispatcher([one for one in OFFERED if one["name"] == "demo.train"])
    world.dispatcher_falls_silent()
    assert world.show(job_id)["reason"] == "no dispatcher has its task"
    assert world.show(others)["reason"] == "waiting for a worker"


def test_times_are_rfc_3339_in_utc(world: World) -> None:
    created_at = world.show(world.submit())["created_at"]
    assert created_at.endswith("Z")
    assert abs(datetime.fromisoformat(created_at) - utc_now()) < timedelta(seconds=60)


def test_the_version_is_the_entity_tag(world: World) -> None:
    job_id = world.submit()
    answer = world.client.get(f"/jobs/{job_id}")
    assert answer.headers["ETag"] == '"1"'
    assert answer.get_json()["version"] == 1
    world.claim()
    assert world.client.get(f"/jobs/{job_id}").headers["ETag"] == '"2"'


@pytest.mark.parametrize("tag", ['"1"', 'W/"1"', '"7", "1"', "*"])
def test_a_client_that_knows_the_version_is_told_nothing_new(world: World, tag: str) -> None:
    job_id = world.submit()
    answer = world.client.get(f"/jobs/{job_id}", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == '"1"'


@pytest.mark.parametrize("tag", ['"2"', "1x", "", '"', '"1'])
def test_a_client_that_knows_another_version_gets_the_job(world: World, tag: str) -> None:
    job_id = world.submit()
    answer = world.client.get(f"/jobs/{job_id}", headers={"If-None-Match": tag})
    assert answer.status_code == 200


def test_a_job_that_is_gone_is_404_also_to_who_knows_it(world: World) -> None:
    answer = world.client.get("/jobs/7", headers={"If-None-Match": "*"})
    problem(answer, 404, "job-not-found")


@pytest.mark.parametrize("made", ["submit", "running"])
def test_an_answer_about_a_job_that_may_change_says_when_to_ask_again(world: World, made: str) -> None:
    job_id = getattr(world, made)()
    for path in ("", "/partials", "/log", "/attempts"):
        assert world.client.get(f"/jobs/{job_id}{path}").headers["Retry-After"] == "1"


@pytest.mark.parametrize("made", ["succeeded", "failed", "cancelled"])
def test_an_answer_about_a_final_job_does_not(world: World, made: str) -> None:
    job_id = getattr(world, made)()
    for path in ("", "/partials", "/log", "/attempts"):
        assert "Retry-After" not in world.client.get(f"/jobs/{job_id}{path}").headers


ABOUT_A_JOB = [
    ("GET", ""),
    ("GET", "/result"),
    ("GET", "/partials"),
    ("GET", "/log"),
    ("GET", "/attempts"),
    ("GET", "/events"),
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("DELETE", ""),
]


@pytest.mark.parametrize(("method", "path"), ABOUT_A_JOB)
def test_a_job_that_is_not_there_is_404(world: World, method: str, path: str) -> None:
    for job_id in (7, 10**18 - 1):
        problem(world.client.open(f"/jobs/{job_id}{path}", method=method), 404, "job-not-found")


@pytest.mark.parametrize(
    "job_id", ["0", "-1", "007", "1.0", "x", "1x", "%31%20", "٣", 10**18, 2**63, "9" * 5000]
)
@pytest.mark.parametrize(("method", "path"), ABOUT_A_JOB)
def test_what_can_be_no_job_s_id_is_404(world: World, method: str, path: str, job_id: Any) -> None:
    problem(world.client.open(f"/jobs/{job_id}{path}", method=method), 404, "path-not-found")


@pytest.mark.parametrize(("method", "path"), ABOUT_A_JOB)
def test_a_query_that_the_path_does_not_know_is_400(world: World, method: str, path: str) -> None:
    job_id = world.submit()
    answer = world.client.open(f"/jobs/{job_id}{path}?colour=red", method=method)
    told = problem(answer, 400, "invalid-query")
    assert told["errors"][0]["parameter"] == "colour"
    assert world.show(job_id)["version"] == 1


def test_a_large_result_passes_through_as_it_was_stored(world: World) -> None:
    result = ["x" * 1000] * 4000
    job_id = world.succeeded(result)
    assert world.show(job_id)["result"] == result
    assert world.client.get(f"/jobs/{job_id}/result").get_json() == result
