import json
import select
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobrunner.api.situation import Situation
from jobrunner.clock import utc_now
from jobrunner.errors import StoreUnavailableError
from jobrunner.store import jobs
from jobrunner.store.engine import CHECKPOINT_BYTES_WITHOUT_DAEMON
from jobrunner.store.jobs import NewJob
from jobrunner.wakeup import Bell
from tests.api.world import World, made_in, problem


def test_a_job_is_accepted_stored_and_shown(world: World) -> None:
    answer = world.client.post("/jobs", json={"task": "demo.nothing", "params": {"n": 3}})
    assert answer.status_code == 202
    job = answer.get_json()
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert (job["state"], job["params"], job["attempt"], job["version"]) == ("queued", {"n": 3}, 0, 1)
    shown = world.show(job["id"])
    assert shown | {"waited_seconds": 0} == job | {"waited_seconds": 0}


def test_a_submission_may_leave_out_all_but_the_task(world: World) -> None:
    job = world.show(world.submit("demo.nothing"))
    assert job["params"] == {}
    assert job["labels"] == {}


def test_what_is_left_out_the_task_decides(world: World) -> None:
    job = world.show(world.submit("demo.train", params={"dataset": "iris"}))
    chosen = {name: job[name] for name in ("timeout", "retries", "crash_retries", "memory_limit")}
    assert chosen == {"timeout": 600, "retries": 3, "crash_retries": 0, "memory_limit": 2 << 30}
    assert (job["queue"], job["priority"]) == ("slow", -5)


def test_the_submission_overrides_the_task(world: World) -> None:
    asked = {"timeout": 1.5, "retries": 0, "crash_retries": 7, "memory_limit": 5 << 20, "queue": "fast"}
    job = world.show(world.submit("demo.train", params={"dataset": "iris"}, priority=9, **asked))
    assert {name: job[name] for name in asked} == asked
    assert job["priority"] == 9


def test_null_lifts_a_limit_of_the_task(world: World) -> None:
    job = world.show(world.submit("demo.train", params={"dataset": "iris"}, timeout=None, memory_limit=None))
    assert (job["timeout"], job["memory_limit"]) == (None, None)


def test_a_size_may_be_written_as_people_do(world: World) -> None:
    assert world.show(world.submit(memory_limit="2G"))["memory_limit"] == 2 << 30


def test_labels_are_kept(world: World) -> None:
    labels = {"who": "ci", "a.b-c_d": "", "X" * 100: "é" * 200}
    assert world.show(world.submit(labels=labels))["labels"] == labels


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2999-01-31T12:00:00Z", "2999-01-31T12:00:00Z"),
        ("2999-01-31t12:00:00.5z", "2999-01-31T12:00:00.500000Z"),
        ("2999-01-31T12:00:00+02:00", "2999-01-31T10:00:00Z"),
        ("2999-01-31T12:00:00.123456789-00:30", "2999-01-31T12:30:00.123456Z"),
    ],
)
def test_run_at_is_shown_in_utc(world: World, written: str, meant: str) -> None:
    job = world.show(world.submit(run_at=written))
    assert (job["run_at"], job["reason"]) == (meant, "scheduled")


def test_a_run_at_that_has_passed_means_now(world: World) -> None:
    job = world.show(world.submit(run_at="2001-01-01T00:00:00Z"))
    assert job["reason"] == "waiting for a worker"
    assert job["waited_seconds"] < 60


def test_delay_seconds_is_another_way_to_say_run_at(world: World) -> None:
    before = utc_now()
    answer = world.client.post("/jobs", json={"task": "demo.nothing", "delay_seconds": 30.5})
    run_at = datetime.fromisoformat(answer.get_json()["run_at"])
    assert timedelta(seconds=30.5) <= run_at - before < timedelta(seconds=40)
    assert run_at.tzinfo == UTC
    assert 30 <= int(answer.headers["Retry-After"]) <= 31


def test_somebody_who_waits_for_tomorrow_is_told_to_come_back_in_a_minute(world: World) -> None:
    answer = world.client.post("/jobs", json={"task": "demo.nothing", "delay_seconds": 86400})
    assert answer.headers["Retry-After"] == "60"


def test_null_for_a_time_means_now(world: World) -> None:
    assert world.show(world.submit(run_at=None, delay_seconds=None))["run_at"] is None


def test_parameters_come_back_as_they_were_sent(world: World) -> None:
    notes = {"": [None, True, 1, 1.5, -0.0, 1e-300, 2**70, 'é\U0001f600\t"\\/'], "nested": {"a": [[], {}]}}
    assert world.show(world.submit("demo.paint", params={"notes": notes}))["params"] == {"notes": notes}


def test_an_escaped_surrogate_pair_is_one_character(world: World) -> None:
    body = rb'{"task": "demo.paint", "params": {"notes": {"smile": "\ud83d\ude00", "path": "C:\\u0000"}}}'
    answer = world.client.post("/jobs", data=body, content_type="application/json")
    assert answer.get_json()["params"]["notes"] == {"smile": "\U0001f600", "path": "C:\\u0000"}


@pytest.mark.parametrize(
    "kind",
    ["application/json", "application/json; charset=utf-8", "application/vnd.api+json", "APPLICATION/JSON"],
)
def test_any_json_media_type_will_do(world: World, kind: str) -> None:
    assert world.client.post("/jobs", data=b'{"task": "demo.nothing"}', content_type=kind).status_code == 202


def test_a_submission_rings_the_dispatchers_bell_after_it_is_stored(world: World) -> None:
    bell = Bell(world.settings.data / "dispatchers", "1.sock")
    world.submit()
    assert select.select([bell], [], [], 0)[0]
    assert len(world.claim()) == 1
    bell.close()


def test_a_submission_is_no_news_to_those_who_wait_for_other_jobs(world: World) -> None:
    bell = Bell(world.settings.data / "watchers", "1.sock")
    job_id = world.submit()
    assert not select.select([bell], [], [], 0)[0]
    world.client.post(f"/jobs/{job_id}/cancel")
    assert select.select([bell], [], [], 0)[0]
    bell.close()


def test_a_refused_submission_rings_no_bell(world: World) -> None:
    bell = Bell(world.settings.data / "dispatchers", "1.sock")
    world.client.post("/jobs", json={"task": "no.such"})
    assert not select.select([bell], [], [], 0)[0]
    bell.close()


def test_a_full_queue_refuses_until_there_is_room(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_queued=2)
    world.submit()
    world.submit()
    answer = world.client.post("/jobs", json={"task": "demo.nothing"})
    told = problem(answer, 503, "queue-full")
    assert "max_queued is 2" in told["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    assert world.count() == 2
    world.claim()
    world.submit()
    world.close()


def test_parameters_larger_than_allowed_are_refused_by_the_setting_s_name(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_params_bytes=64)
    fits = {"notes": {"a": "x" * (64 - len('{"notes":{"a":""}}'))}}
    world.submit("demo.paint", params=fits)
    fits["notes"]["a"] = "é" * (len(fits["notes"]["a"]) // 2 + 1)
    answer = world.client.post("/jobs", json={"task": "demo.paint", "params": fits})
    assert "max_params_bytes is 64" in problem(answer, 413, "params-too-large")["detail"]
    assert world.count() == 1
    world.close()


def test_a_body_larger_than_allowed_is_refused_by_the_setting_s_name(tmp_path: Path) -> None:
    world = made_in(tmp_path, max_body_bytes=1024)
    body = json.dumps({"task": "demo.nothing", "labels": {"a": "x" * 1024}})
    answer = world.client.post("/jobs", data=body, content_type="application/json")
    assert "max_body_bytes is 1024" in problem(answer, 413, "body-too-large")["detail"]
    assert world.count() == 0
    world.close()


def test_a_log_that_no_dispatcher_shortens_is_copied_into_the_database_by_the_api(world: World) -> None:
    database = world.store.path
    large = [NewJob("demo.nothing", f'"{"x" * (1 << 20)}"')] * 11
    while world.store.wal_bytes() < CHECKPOINT_BYTES_WITHOUT_DAEMON:
        with world.store.write(durable=False) as connection:
            jobs.submit(connection, large, now=utc_now())
    before = database.stat().st_size
    world.submit()
    assert database.stat().st_size > before + CHECKPOINT_BYTES_WITHOUT_DAEMON // 2


def test_a_whole_number_may_be_written_as_json_has_it(world: World) -> None:
    job = world.show(world.submit(priority=3.0, retries=2.0, memory_limit=float(5 << 20)))
    assert [job[name] for name in ("priority", "retries", "memory_limit")] == [3, 2, 5 << 20]
    cancelled = world.client.post("/jobs/cancel", json={"ids": [float(job["id"])]})
    assert cancelled.get_json() == {"ids": [job["id"]]}


def test_what_is_stored_is_answered_as_that_although_its_surroundings_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: Any) -> None:
        raise StoreUnavailableError("the disk is gone")

    monkeypatch.setattr(Situation, "reason", unreadable)
    answer = world.client.post("/jobs", json={"task": "demo.nothing"})
    assert (answer.status_code, answer.get_json()["id"], answer.get_json()["reason"]) == (202, 1, None)
    assert world.client.get("/jobs/1").status_code == 503
