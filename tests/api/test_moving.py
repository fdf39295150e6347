"""Cancelling, asking again, deleting."""

import select
from pathlib import Path
from typing import Any

import pytest

from jobrunner.lifecycle import Ending
from jobrunner.store import moves
from jobrunner.wakeup import Bell
from tests.api.world import World, made_in, pointers, problem


def grace_seconds(world: World) -> list[float]:
    """What the dispatcher is asked to stop, and how patiently."""
    with world.store.read() as connection:
        return [one.grace_seconds for one in moves.stop_requests(connection, world.dispatcher_id)]


def test_a_queued_job_is_cancelled_at_once(world: World) -> None:
    answer = world.client.post(f"/jobs/{world.submit()}/cancel")
    assert answer.status_code == 200
    assert answer.get_json()["state"] == "cancelled"
    assert "Retry-After" not in answer.headers
    assert world.claim() == []


def test_a_scheduled_job_is_cancelled_at_once(world: World) -> None:
    answer = world.client.post(f"/jobs/{world.submit(delay_seconds=60)}/cancel")
    assert (answer.status_code, answer.get_json()["state"]) == (200, "cancelled")


def test_a_running_job_is_asked_to_stop(world: World) -> None:
    job_id = world.running()
    answer = world.client.post(f"/jobs/{job_id}/cancel")
    assert answer.status_code == 202
    assert (answer.get_json()["state"], answer.get_json()["reason"]) == ("running", "stopping")
    assert answer.headers["Retry-After"] == "1"
    assert grace_seconds(world) == [world.settings.grace_seconds]
    world.end(job_id, Ending.CANCELLED)
    assert world.show(job_id)["state"] == "cancelled"


def test_the_grace_may_be_said(world: World) -> None:
    job_id = world.running()
    assert world.client.post(f"/jobs/{job_id}/cancel", json={"grace_seconds": 0.5}).status_code == 202
    assert grace_seconds(world) == [0.5]


def test_an_empty_object_asks_for_nothing_special(world: World) -> None:
    assert world.client.post(f"/jobs/{world.running()}/cancel", json={}).status_code == 202
    assert grace_seconds(world) == [world.settings.grace_seconds]


def test_cancelling_twice_changes_nothing(world: World) -> None:
    for job_id, status in ((world.running(), 202), (world.submit(), 200)):
        first = world.client.post(f"/jobs/{job_id}/cancel", json={"grace_seconds": 1})
        again = world.client.post(f"/jobs/{job_id}/cancel", json={"grace_seconds": 2})
        assert (first.status_code, again.status_code) == (status, status)
        assert first.get_json()["version"] == again.get_json()["version"]
    assert grace_seconds(world) == [1]


@pytest.mark.parametrize("made", ["succeeded", "failed"])
def test_a_finished_job_cannot_be_cancelled(world: World, made: str) -> None:
    job_id = getattr(world, made)()
    told = problem(world.client.post(f"/jobs/{job_id}/cancel"), 409, "already-finished")
    assert made in told["detail"]
    assert world.show(job_id)["state"] == made


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"grace_seconds": -1}, "#/grace_seconds"),
        ({"grace_seconds": "5"}, "#/grace_seconds"),
        ({"grace_seconds": None}, "#/grace_seconds"),
        ({"grace_seconds": 3601}, "#/grace_seconds"),
        ({"grace": 5}, "#/grace"),
        ([], "#"),
    ],
)
def test_a_bad_cancellation_is_422_and_cancels_nothing(world: World, body: Any, where: str) -> None:
    job_id = world.submit()
    answer = world.client.post(f"/jobs/{job_id}/cancel", json=body)
    assert pointers(problem(answer, 422, "invalid-fields")) == [where]
    assert world.show(job_id)["state"] == "queued"


def test_a_cancellation_that_is_not_json_cancels_nothing(world: World) -> None:
    job_id = world.submit()
    path = f"/jobs/{job_id}/cancel"
    problem(world.client.post(path, data=b"now", content_type="application/json"), 400, "not-json")
    problem(world.client.post(path, data=b"{}"), 415, "unsupported-media-type")
    assert world.show(job_id)["state"] == "queued"


@pytest.mark.parametrize("made", ["failed", "cancelled"])
def test_a_job_that_failed_or_was_cancelled_can_be_queued_again(world: World, made: str) -> None:
    job_id = getattr(world, made)()
    answer = world.client.post(f"/jobs/{job_id}/retry")
    assert answer.status_code == 202
    job = answer.get_json()
    assert (job["id"], job["state"], job["reason"]) == (job_id, "queued", "waiting for a worker")
    assert (job["error"], job["finished_at"]) == (None, None)
    [claimed] = world.claim()
    assert (claimed.id, claimed.attempt) == (job_id, job["attempt"] + 1)


@pytest.mark.parametrize("made", ["submit", "running", "succeeded"])
def test_another_job_cannot_be_queued_again(world: World, made: str) -> None:
    job_id = getattr(world, made)()
    version = world.show(job_id)["version"]
    problem(world.client.post(f"/jobs/{job_id}/retry"), 409, "wrong-state")
    assert world.show(job_id)["version"] == version


def test_a_full_queue_takes_no_job_back(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_queued=1)
    job_id = world.failed()
    world.submit()
    problem(world.client.post(f"/jobs/{job_id}/retry"), 503, "queue-full")
    assert world.show(job_id)["state"] == "failed"
    world.close()


@pytest.mark.parametrize("made", ["succeeded", "failed", "cancelled"])
def test_a_final_job_can_be_deleted(world: World, made: str) -> None:
    job_id = getattr(world, made)()
    answer = world.client.delete(f"/jobs/{job_id}")
    assert (answer.status_code, answer.data) == (204, b"")
    problem(world.client.get(f"/jobs/{job_id}"), 404, "job-not-found")
    problem(world.client.delete(f"/jobs/{job_id}"), 404, "job-not-found")
    assert world.count() == 0


@pytest.mark.parametrize("made", ["submit", "running"])
def test_a_job_that_is_not_final_cannot_be_deleted(world: World, made: str) -> None:
    job_id = getattr(world, made)()
    problem(world.client.delete(f"/jobs/{job_id}"), 409, "wrong-state")
    assert world.count() == 1


def test_a_dispatcher_hears_of_a_cancellation_and_of_a_retry(world: World) -> None:
    job_id = world.failed()
    bell = Bell(world.settings.data / "dispatchers", "1.sock")
    for path in ("retry", "cancel"):
        bell.clear()
        world.client.post(f"/jobs/{job_id}/{path}")
        assert select.select([bell], [], [], 0)[0]
    bell.close()
