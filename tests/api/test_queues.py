import select
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from jobrunner.api import intake
from jobrunner.wakeup import Bell
from tests.api.world import World, made_in, pointers, problem


def queue(world: World, name: str) -> Any:
    answer = world.client.get(f"/queues/{quote(name)}")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def change(world: World, name: str, **body: Any) -> Any:
    answer = world.client.patch(f"/queues/{quote(name)}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_every_queue_is_listed_with_its_jobs(world: World) -> None:
    world.submit(queue="b")
    world.submit(queue="a")
    items = world.client.get("/queues").get_json()["items"]
    assert [one["name"] for one in items] == ["a", "b", "default"]
    none = {"running": 0, "succeeded": 0, "failed": 0, "cancelled": 0}
    assert items[0] == {"name": "a", "paused": False, "paused_since": None, "jobs": {"queued": 1} | none}


def test_a_paused_queue_starts_nothing_and_its_jobs_say_why(world: World) -> None:
    job_id = world.submit(queue="night")
    told = change(world, "night", paused=True)
    assert (told["paused"], told["paused_since"] is not None) == (True, True)
    assert world.claim() == []
    assert world.show(job_id)["reason"] == "queue paused"
    assert change(world, "night", paused=False)["paused"] is False
    assert world.show(job_id)["reason"] == "waiting for a worker"
    assert [one.id for one in world.claim()] == [job_id]


def test_a_job_may_be_submitted_to_a_paused_queue(world: World) -> None:
    change(world, "default", paused=True)
    assert world.show(world.submit())["reason"] == "queue paused"


def test_resuming_rings_the_dispatchers_bell(world: World) -> None:
    change(world, "default", paused=True)
    bell = Bell(world.settings.data / "dispatchers", "1.sock")
    change(world, "default", paused=False)
    assert select.select([bell], [], [], 0)[0]
    bell.close()


@pytest.mark.parametrize("name", ["a/b", "a b", "é", "100%", "..", "a?b#c"])
def test_a_queue_may_have_any_name_that_a_job_may_give_it(world: World, name: str) -> None:
    world.submit(queue=name)
    assert queue(world, name)["name"] == name
    assert change(world, name, paused=True)["paused"] is True


def test_a_misspelt_queue_is_not_paused_in_silence(world: World) -> None:
    told = problem(world.client.patch("/queues/defualt", json={"paused": True}), 404, "queue-not-found")
    assert "there is default" in told["detail"]
    problem(world.client.get("/queues/defualt"), 404, "queue-not-found")


@pytest.mark.parametrize(
    "body", [{}, {"paused": "yes"}, {"paused": 1}, {"paused": None}, {"paused": True, "x": 1}, []]
)
def test_a_change_that_is_none_is_refused(world: World, body: Any) -> None:
    told = problem(world.client.patch("/queues/default", json=body), 422, "invalid-fields")
    assert pointers(told) in (["#/paused"], ["#/x"], ["#"])
    assert not queue(world, "default")["paused"]


def test_queues_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_QUEUES", 2)
    world = made_in(tmp_path)
    world.submit(queue="a")
    world.submit(queue="b")
    problem(world.client.post("/jobs", json={"task": "demo.nothing", "queue": "c"}), 422, "too-many-queues")
    world.submit(queue="b")
    world.close()


def test_a_name_is_free_again_when_the_jobs_of_its_queue_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_QUEUES", 2)
    world = made_in(tmp_path)
    for number in range(5):
        job_id = world.submit(queue=f"user-{number}")
        assert world.client.post(f"/jobs/{job_id}/cancel").status_code == 200
        assert world.client.delete(f"/jobs/{job_id}").status_code == 204
    items = world.client.get("/queues").get_json()["items"]
    assert [one["name"] for one in items] == ["default"]
    world.close()


def test_a_paused_queue_without_jobs_can_be_resumed_and_is_gone_then(world: World) -> None:
    job_id = world.submit(queue="a")
    change(world, "a", paused=True)
    world.client.post(f"/jobs/{job_id}/cancel")
    world.client.delete(f"/jobs/{job_id}")
    assert queue(world, "a")["paused"]
    told = change(world, "a", paused=False)
    assert (told["name"], told["paused"], told["paused_since"]) == ("a", False, None)
    problem(world.client.get("/queues/a"), 404, "queue-not-found")


def test_a_slash_at_the_end_of_its_path_is_none_of_its_name_unless_it_has_one(world: World) -> None:
    world.submit(queue="a/b")
    assert world.client.get("/queues/a/b/").get_json()["name"] == "a/b"
    assert world.client.patch("/queues/a/b/", json={"paused": True}).get_json()["name"] == "a/b"
    world.submit(queue="a/b/")
    told = world.client.get("/queues/a/b/").get_json()
    assert (told["name"], told["paused"]) == ("a/b/", False)
