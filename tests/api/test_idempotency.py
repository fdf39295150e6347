"""A POST that is sent again is not done again."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import g
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from jobrunner.api import idempotency
from jobrunner.api.app import create_app
from jobrunner.lifecycle import Ending
from jobrunner.settings import Settings
from tests.api.serving import served
from tests.api.world import OFFERED, World, made_in, problem

JOB = {"task": "demo.nothing", "params": {"n": 3}}
_APP = create_app(Settings(data=Path("nowhere")))


def post(world: World, key: str, body: Any = JOB, path: str = "/jobs") -> TestResponse:
    return world.client.post(path, json=body, headers={"Idempotency-Key": key})


def test_the_same_key_and_body_give_back_the_same_job(world: World) -> None:
    first, again = post(world, "k1"), post(world, "k1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.get_json()["id"] == first.get_json()["id"]
    assert again.headers["Location"] == first.headers["Location"]
    assert world.count() == 1


def test_a_replay_shows_the_job_as_it_stands_and_is_200_once_it_is_final(world: World) -> None:
    job_id = post(world, "k1").get_json()["id"]
    world.claim()
    assert post(world, "k1").get_json()["state"] == "running"
    world.end(job_id, Ending.SUCCEEDED, result=7)
    answer = post(world, "k1")
    assert (answer.status_code, answer.get_json()["result"]) == (200, 7)
    assert "Retry-After" not in answer.headers


def test_another_key_or_none_makes_another_job(world: World) -> None:
    for key in ("k1", "k2", "K1"):
        post(world, key)
    world.submit(**JOB)  # type: ignore[arg-type]
    world.submit(**JOB)  # type: ignore[arg-type]
    assert world.count() == 5


def test_the_same_key_with_another_body_is_refused_and_stores_nothing(world: World) -> None:
    post(world, "k1")
    told = problem(post(world, "k1", {**JOB, "params": {"n": 4}}), 422, "idempotency-mismatch")
    assert "'k1'" in told["detail"]
    problem(post(world, "k1", [JOB], "/jobs/batch"), 422, "idempotency-mismatch")
    assert world.count() == 1


def test_how_the_same_json_is_written_does_not_matter(world: World) -> None:
    post(world, "k1")
    body = b'{ "params": {"n":3},\n "task": "demo.nothing" }'
    headers = {"Idempotency-Key": "k1"}
    answer = world.client.post("/jobs/", data=body, content_type="application/json", headers=headers)
    assert answer.headers["Idempotency-Replayed"] == "true"
    assert world.count() == 1


def test_a_request_that_was_refused_does_not_use_its_key_up(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_queued=1)
    problem(post(world, "k1", {"task": "demo.nothing", "params": {"n": "x"}}), 422, "invalid-fields")
    problem(post(world, "k1", {"task": "no.such"}), 422, "unknown-task")
    filler = world.submit()
    problem(post(world, "k1"), 503, "queue-full")
    world.client.post(f"/jobs/{filler}/cancel")
    assert post(world, "k1").status_code == 202
    world.close()


def test_a_replay_needs_neither_room_nor_its_task(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_queued=1)
    job_id = post(world, "k1").get_json()["id"]
    world.publish([one for one in OFFERED if one["name"] != "demo.nothing"])
    problem(world.client.post("/jobs", json=JOB), 422, "unknown-task")
    assert post(world, "k1").get_json()["id"] == job_id
    world.close()


def test_a_batch_is_given_back_whole(world: World) -> None:
    batch = [JOB] * 3
    first, again = post(world, "k1", batch, "/jobs/batch"), post(world, "k1", batch, "/jobs/batch")
    assert first.get_json() == again.get_json() == {"ids": [1, 2, 3]}
    assert again.headers["Idempotency-Replayed"] == "true"
    assert world.count() == 3


def test_a_key_lives_as_long_as_its_job(world: World) -> None:
    job_id = post(world, "k1").get_json()["id"]
    world.claim()
    world.end(job_id, Ending.SUCCEEDED, result=7)
    assert world.client.delete(f"/jobs/{job_id}").status_code == 204
    answer = post(world, "k1", {**JOB, "params": {"n": 4}})
    assert answer.status_code == 202
    assert answer.get_json()["id"] != job_id


@pytest.mark.parametrize("key", ["", '""', "x" * 256, f'"{"x" * 256}"', "tab\tkey", "é"])
def test_a_key_that_is_none_is_refused(world: World, key: str) -> None:
    told = problem(post(world, key), 400, "invalid-idempotency-key")
    assert "1 to 255 visible ASCII characters" in told["detail"]
    assert world.count() == 0


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255))
def test_a_key_in_quotation_marks_is_the_key_itself(key: str) -> None:
    quoted = '"{}"'.format(key.replace("\\", r"\\").replace('"', r"\""))
    with _APP.test_request_context("/jobs", headers={"Idempotency-Key": quoted}):
        g.owner = 0
        claim = idempotency.read(JOB)
    assert claim is not None
    assert claim.key == key


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=254))
def test_a_key_without_quotation_marks_is_taken_as_it_is(key: str) -> None:
    with _APP.test_request_context("/jobs", headers={"Idempotency-Key": f"k{key}"}):
        g.owner = 0
        claim = idempotency.read(JOB)
    assert claim is not None
    assert claim.key == f"k{key}"


def test_of_many_at_once_one_is_stored_and_all_are_told_of_it(tmp_path: Path) -> None:
    made_in(tmp_path).close()  # a dispatcher that has published its tasks
    answers: list[tuple[int, str | None]] = []
    with served(tmp_path, api_workers=2) as server:
        gate = threading.Barrier(8)

        def send() -> None:
            connection = server.connect()
            connection.connect()
            gate.wait(20)
            headers = {"Content-Type": "application/json", "Idempotency-Key": "k1"}
            connection.request("POST", "/jobs", json.dumps(JOB), headers)
            answer = connection.getresponse()
            job = json.loads(answer.read())
            answers.append((job.get("id"), answer.headers["Idempotency-Replayed"]))
            connection.close()

        senders = [threading.Thread(target=send) for _ in range(8)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(30)
        assert {job_id for job_id, _ in answers} == {1}
        assert sorted(str(replayed) for _, replayed in answers) == ["None"] + ["true"] * 7
        assert server.ask("GET", "/stats")[1]["jobs"]["queued"] == 1
