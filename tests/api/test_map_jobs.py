"""Map jobs over HTTP: how far one is, its items, its values as partial results, events and result, asking again."""

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from sqlalchemy import insert
from werkzeug.test import TestResponse

from jobrunner.errors import JobNotFoundError
from jobrunner.lifecycle import Ending
from jobrunner.store import items
from jobrunner.store.engine import Store
from jobrunner.store.tables import removal
from tests.api.world import OFFERED, World, description, item_failed, problem, values

LINES = {"Accept": "application/x-ndjson"}


def total(values: Any, scale: int = 1) -> None:
    """Add them up."""


@pytest.fixture
def world(world: World) -> World:
    world.publish([*OFFERED, description("demo.total", total)])
    return world


def get(world: World, path: str, **headers: str) -> Any:
    answer = world.client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def lines(answer: TestResponse) -> list[Any]:
    assert (answer.status_code, answer.mimetype) == (200, "application/x-ndjson"), answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.fixture
def mixed(world: World) -> int:
    """Items 0 to 2 and 5 have succeeded, 3 and 4 failed, 6 and 7 are in hand, 8 and 9 wait."""
    job_id = world.running(map={"n": {"range": [0, 10]}}, params={}, max_failed=5)
    world.hand_out(job_id, 0, 6)
    world.settle(job_id, values(0, "a", "b", "c"), item_failed(4), item_failed(3), values(5, "f"), closed=0)
    world.hand_out(job_id, 6, 2)
    return job_id


# -- the job --------------------------------------------------------------------------------------


def test_a_job_that_is_no_map_job_says_so(world: World) -> None:
    shown = world.show(world.submit())
    assert shown["map"] is None
    assert "items" not in shown["links"]


def test_a_map_job_that_waits(world: World) -> None:
    job_id = world.submit(
        map={"n": [1, 2]}, reduce={"task": "demo.total", "params": {"scale": 3}}, chunk_size=7
    )
    shown = world.show(job_id)
    assert shown["map"] == {
        "items": 2,
        "done": 0,
        "failed": 0,
        "running": 0,
        "per_second": None,
        "eta_seconds": None,
        "max_failed": None,
        "max_parallel": None,
        "chunk_size": 7,
        "reduce": {"task": "demo.total", "params": {"scale": 3}},
    }
    assert shown["progress"] == {"done": 0, "total": 2, "message": None}
    assert (shown["state"], shown["reason"], shown["params"]) == ("queued", "waiting for a worker", {})
    assert shown["links"]["items"] == f"/jobs/{job_id}/items"


def test_a_map_job_that_runs_tells_how_far_it_is(world: World, mixed: int) -> None:
    shown = world.show(mixed)
    told = shown["map"]
    assert (told["items"], told["done"], told["failed"], told["running"]) == (10, 4, 2, 2)
    assert told["per_second"] * shown["ran_seconds"] == pytest.approx(6)
    assert told["eta_seconds"] * told["per_second"] == pytest.approx(4)
    assert (shown["progress"]["done"], shown["progress"]["total"]) == (6, 10)
    assert "item 3 has failed" in shown["progress"]["message"]
    assert shown["partials"] == 4


def test_a_map_job_that_is_paused_has_no_time_left(world: World, mixed: int) -> None:
    world.client.patch("/queues/default", json={"paused": True})
    shown = world.show(mixed)
    assert (shown["reason"], shown["map"]["eta_seconds"]) == ("queue paused", None)


def test_what_is_settled_of_a_chunk_in_hand_does_not_run(world: World) -> None:
    job_id = world.running(map={"n": [1, 2, 3]})
    world.hand_out(job_id, 0, 3)
    world.settle(job_id, values(0, "a", "b"))
    assert world.show(job_id)["map"]["running"] == 1


def test_a_map_job_whose_values_are_all_there_says_that_it_reduces_them(world: World) -> None:
    job_id = world.running(map={"n": [1, 2]}, reduce="demo.total")
    assert world.show(job_id)["reason"] is None
    world.chunk(job_id, 0, values(0, 1, 2))
    shown = world.show(job_id)
    assert (shown["state"], shown["reason"]) == ("running", "reducing")
    assert (shown["map"]["eta_seconds"], shown["map"]["running"]) == (None, 0)


def test_a_map_job_that_has_ended_tells_how_fast_it_was(world: World) -> None:
    shown = world.show(world.mapped(1, 2, 3, 4))
    assert (shown["state"], shown["result"]) == ("succeeded", None)
    assert shown["map"]["per_second"] * shown["ran_seconds"] == pytest.approx(4)
    assert (shown["map"]["eta_seconds"], shown["map"]["running"]) == (None, 0)


def test_a_list_tells_of_map_jobs_beside_others(world: World, mixed: int) -> None:
    other, plain = world.mapped(7), world.submit()
    told = {one["id"]: one["map"] for one in get(world, "/jobs")["items"]}
    assert told[plain] is None
    assert (told[other]["done"], told[mixed]["done"], told[mixed]["running"]) == (1, 4, 2)
    assert told[mixed].keys() == world.show(mixed)["map"].keys()


def test_to_show_a_job_takes_one_query_more_if_it_is_a_map_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, mapped = world.succeeded(5), world.mapped(1)
    world.show(plain)
    asked: list[str] = []
    ask = Store.ask

    def noted(store: Store, sql: str, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        asked.append(sql)
        return ask(store, sql, values)

    monkeypatch.setattr(Store, "ask", noted)
    world.show(plain)
    assert len(asked) == 1
    asked.clear()
    world.show(mapped)
    assert len(asked) == 2


# -- items ----------------------------------------------------------------------------------------


def test_items_are_listed_with_their_parameters_and_what_became_of_them(world: World, mixed: int) -> None:
    page = get(world, f"/jobs/{mixed}/items")
    assert [one["index"] for one in page["items"]] == [0, 1, 2, 3, 4, 5]
    assert page["next"] is None
    first, failed = page["items"][0], page["items"][3]
    assert first == {
        "index": 0,
        "state": "succeeded",
        "params": {"n": 0},
        "value": "a",
        "error": None,
        "attempt": 1,
    }
    assert (failed["state"], failed["params"], failed["value"]) == ("failed", {"n": 3}, None)
    assert (failed["error"]["kind"], failed["error"]["type"]) == ("exception", "ValueError")


def test_items_may_be_asked_for_by_their_state(world: World, mixed: int) -> None:
    def found(query: str) -> list[int]:
        return [one["index"] for one in get(world, f"/jobs/{mixed}/items{query}")["items"]]

    assert found("?state=failed") == [3, 4]
    assert found("?state=succeeded") == [0, 1, 2, 5]
    assert found("?state=succeeded&state=failed&after=2") == [3, 4, 5]
    problem(world.client.get(f"/jobs/{mixed}/items?state=queued"), 400, "invalid-query")
    problem(world.client.get(f"/jobs/{mixed}/items?after=-1"), 400, "invalid-query")
    assert found(f"?after={10**12}") == []


def test_pages_of_items_follow_each_other(world: World, mixed: int) -> None:
    found, after = [], ""
    while True:
        page = get(world, f"/jobs/{mixed}/items?limit=2{after}")
        found.append([one["index"] for one in page["items"]])
        if page["next"] is None:
            break
        assert page["next"] == found[-1][-1]
        after = f"&after={page['next']}"
    assert [*itertools.chain(*found)] == [0, 1, 2, 3, 4, 5]
    assert max(map(len, found)) == 2


def test_all_items_come_as_lines(world: World, mixed: int) -> None:
    answer = world.client.get(f"/jobs/{mixed}/items?limit=1", headers=LINES)
    assert lines(answer) == get(world, f"/jobs/{mixed}/items")["items"]
    answer = world.client.get(f"/jobs/{mixed}/items?state=failed&after=3", headers=LINES)
    assert [one["index"] for one in lines(answer)] == [4]


def test_items_of_a_list_of_objects_have_their_own_parameters(world: World) -> None:
    job_id = world.running(task="demo.train", map=[{"dataset": "a"}, {"dataset": "é"}], params={"epochs": 2})
    world.chunk(job_id, 0, values(0, 1, 2))
    told = get(world, f"/jobs/{job_id}/items")["items"]
    assert [one["params"] for one in told] == [{"dataset": "a"}, {"dataset": "é"}]


def test_a_job_that_is_no_map_job_has_no_items(world: World) -> None:
    for headers in ({}, LINES):
        problem(world.client.get(f"/jobs/{world.submit()}/items", headers=headers), 409, "no-map-job")
        problem(world.client.get("/jobs/999/items", headers=headers), 404, "job-not-found")


# -- values as events -----------------------------------------------------------------------------


def test_each_value_is_a_partial_result_with_its_index(world: World) -> None:
    job_id = world.mapped(*"abcd")  # item 3 comes first
    page = get(world, f"/jobs/{job_id}/partials")
    assert [(one["seq"], one["index"], one["value"]) for one in page["items"]] == [
        (3, 3, "d"),
        (4, 0, "a"),
        (5, 1, "b"),
        (6, 2, "c"),
    ]
    assert (page["complete"], page["next_after"], world.show(job_id)["partials"]) == (True, 6, 4)
    rest = get(world, f"/jobs/{job_id}/partials?after=4&limit=1")
    assert ([one["index"] for one in rest["items"]], rest["next_after"]) == ([1], 5)
    assert not rest["complete"]
    told = lines(world.client.get(f"/jobs/{job_id}/partials", headers=LINES))
    assert told == page["items"]


def test_partial_results_of_other_jobs_have_no_index(world: World) -> None:
    job_id = world.succeeded()
    assert all("index" not in one for one in get(world, f"/jobs/{job_id}/partials")["items"])


def test_each_value_is_an_event_with_its_index(world: World) -> None:
    job_id = world.mapped(*"ab")
    told = world.client.get(f"/jobs/{job_id}/events?after=3").text
    frames = [
        dict(line.split(": ", 1) for line in one.splitlines()) for one in told.split("\n\n") if "data" in one
    ]
    assert [(one["id"], one["event"]) for one in frames] == [("4", "partial"), ("5", "state"), ("5", "end")]
    assert json.loads(frames[0]["data"])["index"] == 1


# -- the result -----------------------------------------------------------------------------------


def test_the_result_is_the_list_of_all_values_in_the_order_of_the_items(world: World) -> None:
    job_id = world.mapped(*"abcdefg", None)
    answer = world.client.get(f"/jobs/{job_id}/result")
    assert (answer.get_json(), answer.mimetype) == ([*"abcdefg", None], "application/json")
    assert answer.headers["ETag"] == f'"{world.show(job_id)["version"]}"'
    assert answer.headers["Vary"] == "Accept"
    known = world.client.get(f"/jobs/{job_id}/result", headers={"If-None-Match": answer.headers["ETag"]})
    assert known.status_code == 304
    head = world.client.head(f"/jobs/{job_id}/result")
    assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", answer.headers["ETag"])
    assert lines(world.client.get(f"/jobs/{job_id}/result", headers=LINES)) == [*"abcdefg", None]


def test_the_result_of_a_reduce_is_bare(world: World) -> None:
    job_id = world.running(map={"n": [1, 2]}, reduce="demo.total")
    world.chunk(job_id, 0, values(0, 1, 2))
    problem(world.client.get(f"/jobs/{job_id}/result"), 409, "not-finished")
    world.end(job_id, Ending.SUCCEEDED, result={"sum": 3})
    for headers in ({}, LINES):
        assert world.client.get(f"/jobs/{job_id}/result", headers=headers).get_json() == {"sum": 3}


def test_a_map_job_whose_items_failed_has_no_result_but_an_error(world: World) -> None:
    job_id = world.running(map={"n": [1, 2]})
    world.chunk(job_id, 0, values(0, 1), item_failed(1))
    told = problem(world.client.get(f"/jobs/{job_id}/result"), 409, "job-failed")
    assert "/items" in told["detail"], "the values that are there are not lost"
    assert "1 of 2 items failed, the first is item 1" in told["error"]["message"]


@pytest.fixture
def large(world: World, monkeypatch: pytest.MonkeyPatch) -> int:
    """A map job whose result is more than is answered at once."""
    monkeypatch.setattr("jobrunner.api.piecemeal._AT_ONCE_BYTES", 1000)
    defaults = items.values.__kwdefaults__ or {}
    monkeypatch.setattr(items.values, "__kwdefaults__", {**defaults, "limit": 1})
    return world.mapped(*(str(number) * 70_000 for number in range(9)))


def pieces(world: World, path: str, **headers: str) -> Iterator[bytes]:
    answer = world.client.get(path, headers=headers, buffered=False)
    assert answer.status_code == 200
    return iter(answer.iter_encoded())


def test_a_large_result_comes_in_pieces_and_takes_a_place_meanwhile(world: World, large: int) -> None:
    sent = pieces(world, f"/jobs/{large}/result")
    first = next(sent)
    assert world.app.watcher.waiting == 1
    told = [first, *sent]
    assert world.app.watcher.waiting == 0
    assert json.loads(b"".join(told)) == [str(number) * 70_000 for number in range(9)]
    assert max(map(len, told)) < 300_000
    by_line = b"".join(pieces(world, f"/jobs/{large}/result", **LINES))
    assert [json.loads(line)[0] for line in by_line.splitlines()] == [*"012345678"]
    items_told = b"".join(pieces(world, f"/jobs/{large}/items", **LINES))
    assert [json.loads(line)["index"] for line in items_told.splitlines()] == [*range(9)]


def test_a_large_result_is_refused_where_nobody_else_may_wait(world: World, large: int) -> None:
    world.app.watcher._places = 0
    for path, headers in (("result", {}), ("result", LINES), ("items", LINES)):
        problem(world.client.get(f"/jobs/{large}/{path}", headers=headers), 503, "too-many-waiting")
    small = world.mapped(1)
    assert get(world, f"/jobs/{small}/result") == [1]
    assert world.client.head(f"/jobs/{large}/result").status_code == 200


@pytest.mark.parametrize("path", ["result", "items"])
def test_a_result_whose_job_is_deleted_meanwhile_breaks_off(
    world: World, large: int, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.api.items._AT_ONCE", 1)
    sent = pieces(world, f"/jobs/{large}/{path}", **LINES)
    next(sent)
    with world.store.write(durable=False) as connection:  # how it begins; most of it is still there
        connection.execute(insert(removal), {"job_id": large})
    with pytest.raises(BrokenPipeError, match=f"there is no job {large}") as broken:
        list(sent)
    assert isinstance(broken.value.__cause__, JobNotFoundError)
    assert world.app.watcher.waiting == 0


def test_a_result_breaks_off_when_the_service_stops(world: World, large: int) -> None:
    sent = pieces(world, f"/jobs/{large}/result")
    next(sent)
    world.app.watcher.close()
    with pytest.raises(BrokenPipeError):
        list(sent)


def test_what_lacks_a_value_is_no_result(world: World) -> None:
    job_id = world.mapped(1, 2, 3, 4)
    with world.store.write(durable=False) as connection:
        connection.exec_driver_sql("DELETE FROM event WHERE job_id = ? AND item = 0", (job_id,))
    problem(world.client.get(f"/jobs/{job_id}/result"), 500, "internal")


# -- asking again ---------------------------------------------------------------------------------


@pytest.fixture
def half(world: World) -> int:
    """A map job that has failed, whose item 0 has succeeded."""
    job_id = world.running(map={"n": [1, 2]})
    world.chunk(job_id, 0, values(0, 1), item_failed(1))
    assert world.show(job_id)["state"] == "failed"
    return job_id


def test_what_has_failed_may_run_again_alone(world: World, half: int) -> None:
    answer = world.client.post(f"/jobs/{half}/retry", json={"only": "failed"})
    assert (answer.status_code, answer.get_json()["state"]) == (202, "queued")
    told = answer.get_json()["map"]
    assert (told["done"], told["failed"], told["per_second"]) == (1, 0, None)
    world.claim()
    world.chunk(half, 1, values(1, 2), attempt=2)
    assert get(world, f"/jobs/{half}/result") == [1, 2]
    shown = world.show(half)
    assert (shown["map"]["done"], shown["map"]["failed"]) == (2, 0)
    assert shown["map"]["per_second"] * shown["ran_seconds"] == pytest.approx(1)  # of this attempt alone


def test_all_of_it_may_run_again(world: World, half: int) -> None:
    told = world.client.post(f"/jobs/{half}/retry").get_json()["map"]
    assert (told["done"], told["failed"]) == (0, 0)
    assert get(world, f"/jobs/{half}/items")["items"] == []
    world.claim()
    world.chunk(half, 0, values(0, 3, 4), attempt=2)
    assert get(world, f"/jobs/{half}/result") == [3, 4]
    values_told = [(one["attempt"], one["value"]) for one in get(world, f"/jobs/{half}/partials")["items"]]
    assert values_told == [(1, 1), (2, 3), (2, 4)]


def test_only_what_failed_is_no_part_of_other_jobs(world: World) -> None:
    failed = world.failed()
    told = problem(world.client.post(f"/jobs/{failed}/retry", json={"only": "failed"}), 422, "invalid-fields")
    assert told["errors"][0]["pointer"] == "#/only"
    assert world.client.post(f"/jobs/{failed}/retry", json={}).status_code == 202


@pytest.mark.parametrize("said", [{"only": "all"}, {"only": None}, {"x": 1}, [], 5])
def test_a_retry_says_only_failed_or_nothing(world: World, half: int, said: Any) -> None:
    problem(world.client.post(f"/jobs/{half}/retry", json=said), 422, "invalid-fields")
    assert world.show(half)["state"] == "failed"
