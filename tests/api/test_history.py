import json
from typing import Any

import pytest

from jobrunner.api.history import last_lines
from jobrunner.lifecycle import Ending
from jobrunner.reports import EventKind
from tests.api.world import World, problem


def partial(value: Any) -> tuple[EventKind, str]:
    return EventKind.PARTIAL, json.dumps(value)


def log(text: str) -> tuple[EventKind, str]:
    return EventKind.LOG, text


# -- the result -------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [None, 5, "text", [], {"a": {"b": [1.5]}}, False])
def test_the_result_is_bare(world: World, result: Any) -> None:
    answer = world.client.get(f"/jobs/{world.succeeded(result)}/result")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert json.loads(answer.data) == result


def test_a_known_result_is_not_sent_again(world: World) -> None:
    job_id = world.succeeded(5)
    tag = world.client.get(f"/jobs/{job_id}/result").headers["ETag"]
    answer = world.client.get(f"/jobs/{job_id}/result", headers={"If-None-Match": tag})
    assert (answer.status_code, answer.data) == (304, b"")


@pytest.mark.parametrize("made", ["submit", "running"])
def test_a_job_that_is_not_final_has_no_result_yet(world: World, made: str) -> None:
    answer = world.client.get(f"/jobs/{getattr(world, made)()}/result")
    told = problem(answer, 409, "not-finished")
    assert "is queued" in told["detail"] or "is running" in told["detail"]
    assert answer.headers["Retry-After"] == "1"


def test_the_result_of_a_failed_job_is_its_error(world: World) -> None:
    told = problem(world.client.get(f"/jobs/{world.failed()}/result"), 409, "job-failed")
    assert told["error"]["kind"] == "exception"
    assert told["error"]["message"] == "so it went"


def test_a_cancelled_job_has_no_result(world: World) -> None:
    told = problem(world.client.get(f"/jobs/{world.cancelled()}/result"), 409, "job-failed")
    assert "was cancelled" in told["detail"]
    assert told["error"] is None


# -- partial results --------------------------------------------------------------------------------


def page(world: World, job_id: int, query: str = "") -> Any:
    answer = world.client.get(f"/jobs/{job_id}/partials{query}")
    assert answer.status_code == 200, answer.text
    return answer.get_json()


def test_a_job_that_has_yielded_nothing_has_an_empty_page(world: World) -> None:
    assert page(world, world.submit()) == {"items": [], "next_after": 0, "complete": False}
    assert page(world, world.succeeded()) == {"items": [], "next_after": 0, "complete": True}


def test_partial_results_are_listed_in_order_and_nothing_else_is(world: World) -> None:
    job_id = world.running()
    world.say(
        job_id, partial({"epoch": 0}), log("hello\n"), partial([1]), (EventKind.PROGRESS, '{"done": 1}')
    )
    world.say(job_id, partial("é"))
    told = page(world, job_id)
    assert [one["value"] for one in told["items"]] == [{"epoch": 0}, [1], "é"]
    assert [one["seq"] for one in told["items"]] == [3, 5, 7]
    assert {one["attempt"] for one in told["items"]} == {1}
    assert all(one["at"].endswith("Z") for one in told["items"])
    assert (told["next_after"], told["complete"]) == (7, False)
    assert world.show(job_id)["partials"] == 3


def test_asking_again_after_the_last_seq_gives_what_is_new(world: World) -> None:
    job_id = world.running()
    world.say(job_id, partial(0), partial(1))
    after = page(world, job_id)["next_after"]
    assert page(world, job_id, f"?after={after}") == {"items": [], "next_after": after, "complete": False}
    world.say(job_id, partial(2))
    world.end(job_id, Ending.SUCCEEDED)
    told = page(world, job_id, f"?after={after}")
    assert [one["value"] for one in told["items"]] == [2]
    assert told["complete"]


def test_pages_hold_every_partial_result_once(world: World) -> None:
    job_id = world.running()
    world.say(job_id, *(partial(n) for n in range(300)))
    world.end(job_id, Ending.SUCCEEDED)
    seen: list[int] = []
    told: Any = {"next_after": 0, "complete": False}
    while not told["complete"]:
        told = page(world, job_id, f"?limit=70&after={told['next_after']}")
        assert len(told["items"]) == 70 or told["complete"]
        seen += [one["value"] for one in told["items"]]
    assert seen == list(range(300))


def test_a_page_that_ends_with_the_last_one_of_a_final_job_is_complete(world: World) -> None:
    job_id = world.running()
    world.say(job_id, *(partial(n) for n in range(128)))
    world.end(job_id, Ending.SUCCEEDED)
    assert not page(world, job_id, "?limit=127")["complete"]
    assert page(world, job_id, "?limit=128")["complete"]
    assert len(page(world, job_id)["items"]) == 100


def test_large_partial_results_make_shorter_pages_that_lose_nothing(world: World) -> None:
    job_id = world.running()
    large = "x" * (600 << 10)
    world.say(job_id, *(partial([n, large]) for n in range(70)))
    world.end(job_id, Ending.SUCCEEDED)
    first = page(world, job_id, "?limit=1000")
    assert (len(first["items"]), first["complete"]) == (28, False), "16 MiB and the last one"
    second = page(world, job_id, f"?limit=1000&after={first['next_after']}")
    third = page(world, job_id, f"?limit=1000&after={second['next_after']}")
    items = first["items"] + second["items"] + third["items"]
    assert [one["value"][0] for one in items] == list(range(70))
    assert third["complete"]


def test_the_partial_results_of_every_attempt_are_kept(world: World) -> None:
    job_id = world.running()
    world.say(job_id, partial("first"))
    world.end(job_id, Ending.LOST)
    world.claim()
    world.say(job_id, partial("second"), attempt=2)
    told = page(world, job_id)
    assert [(one["attempt"], one["value"]) for one in told["items"]] == [(1, "first"), (2, "second")]


def test_the_partial_results_of_one_attempt_can_be_asked_for(world: World) -> None:
    job_id = world.running()
    world.say(job_id, partial("first"))
    world.end(job_id, Ending.LOST)
    told = page(world, job_id, "?attempt=1")
    assert [one["value"] for one in told["items"]] == ["first"]
    assert told["complete"]  # it may not say more, whatever becomes of the job
    world.claim()
    world.say(job_id, partial("second"), attempt=2)
    assert [one["value"] for one in page(world, job_id, "?attempt=1")["items"]] == ["first"]
    told = page(world, job_id, "?attempt=2&limit=1")
    assert ([one["value"] for one in told["items"]], told["complete"]) == (["second"], False)
    assert page(world, job_id, f"?attempt=2&after={told['next_after']}")["items"] == []
    answer = world.client.get(f"/jobs/{job_id}/partials?attempt=3")
    problem(answer, 404, "attempt-not-found")


def test_the_lines_of_one_attempt_end_with_it(world: World) -> None:
    job_id = world.running()
    world.say(job_id, partial("first"))
    world.end(job_id, Ending.LOST)
    world.claim()
    world.say(job_id, partial("second"), attempt=2)
    lines = {"headers": {"Accept": "application/x-ndjson"}}
    said = world.client.get(f"/jobs/{job_id}/partials?attempt=1", **lines).text.splitlines()
    assert [json.loads(line)["value"] for line in said] == ["first"]
    assert world.client.get(f"/jobs/{job_id}/log?attempt=1&follow=1").status_code == 200


def test_a_wait_for_an_attempt_ends_with_it(world: World) -> None:
    job_id = world.running()
    world.end(job_id, Ending.LOST)
    assert page(world, job_id, "?attempt=1&wait=60") == {"items": [], "next_after": 0, "complete": True}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("after=-1", "after"),
        ("after=x", "after"),
        ("after=", "after"),
        (f"after={2**63}", "after"),
        ("after=1&after=2", "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("wait=x", "wait"),
        ("attempt=0", "attempt"),
    ],
)
def test_a_bad_query_for_partial_results_is_400(world: World, query: str, parameter: str) -> None:
    job_id = world.submit()
    told = problem(world.client.get(f"/jobs/{job_id}/partials?{query}"), 400, "invalid-query")
    assert {error["parameter"] for error in told["errors"]} == {parameter}


def test_a_seq_beyond_the_last_gives_an_empty_page(world: World) -> None:
    assert page(world, world.running(), f"?after={2**63 - 1}")["items"] == []


# -- the log ----------------------------------------------------------------------------------------


def test_the_log_is_plain_text(world: World) -> None:
    job_id = world.running()
    world.say(job_id, log("one\ntw"), partial(1), log("o é\n"))
    answer = world.client.get(f"/jobs/{job_id}/log")
    assert (answer.status_code, answer.content_type) == (200, "text/plain; charset=utf-8")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.text == "one\ntwo é\n"


def test_a_job_that_has_not_run_has_an_empty_log(world: World) -> None:
    answer = world.client.get(f"/jobs/{world.submit()}/log")
    assert (answer.status_code, answer.text) == (200, "")


def test_a_log_of_many_pieces_is_whole(world: World) -> None:
    job_id = world.running()
    world.say(job_id, *(log(f"{n}\n") for n in range(200)))
    assert world.client.get(f"/jobs/{job_id}/log").text == "".join(f"{n}\n" for n in range(200))
    assert world.client.get(f"/jobs/{job_id}/log?tail=2").text == "198\n199\n"


def test_the_log_is_that_of_the_last_attempt_unless_another_is_asked_for(world: World) -> None:
    job_id = world.running()
    world.say(job_id, log("first\n"))
    world.end(job_id, Ending.LOST)
    assert world.client.get(f"/jobs/{job_id}/log").text == "first\n"
    world.claim()
    world.say(job_id, log("second\n"), attempt=2)
    assert world.client.get(f"/jobs/{job_id}/log").text == "second\n"
    assert world.client.get(f"/jobs/{job_id}/log?attempt=1").text == "first\n"


def test_an_attempt_that_the_job_has_not_had_is_404(world: World) -> None:
    job_id = world.running()
    told = problem(world.client.get(f"/jobs/{job_id}/log?attempt=2"), 404, "attempt-not-found")
    assert "no attempt 2" in told["detail"]
    problem(world.client.get(f"/jobs/{world.submit()}/log?attempt=1"), 404, "attempt-not-found")


@pytest.mark.parametrize("query", ["tail=-1", "tail=x", "tail=1.5", "attempt=0", "attempt=x", "lines=5"])
def test_a_bad_query_for_the_log_is_400(world: World, query: str) -> None:
    problem(world.client.get(f"/jobs/{world.running()}/log?{query}"), 400, "invalid-query")


@pytest.mark.parametrize(
    ("text", "count", "last"),
    [
        ("", 3, ""),
        ("a", 1, "a"),
        ("a\n", 1, "a\n"),
        ("a\nb\n", 1, "b\n"),
        ("a\nb", 1, "b"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\nb\n", 2, "a\nb\n"),
        ("a\nb\n", 9, "a\nb\n"),
        ("a\n\n", 1, "\n"),
        ("\n\n\n", 2, "\n\n"),
        ("\n", 1, "\n"),
        ("a\nb\n", 0, ""),
        ("a\u2028b\r\nc\x0bd", 1, "c\x0bd"),
    ],
)
def test_the_tail_counts_lines(text: str, count: int, last: str) -> None:
    assert last_lines(text, count) == last


# -- attempts ---------------------------------------------------------------------------------------


def test_each_attempt_is_listed_with_how_it_ended(world: World) -> None:
    job_id = world.running()
    world.end(job_id, Ending.LOST)
    world.claim()
    first, second = world.client.get(f"/jobs/{job_id}/attempts").get_json()["items"]
    assert (first["attempt"], first["outcome"], first["worker"]) == (1, "lost", 1)
    assert (first["peak_memory_bytes"], first["cpu_seconds"]) == (1 << 20, 0.5)
    assert first["error"]["kind"] == "lost"
    assert first["dispatcher"] == world.dispatcher_id
    assert first["started_at"] <= first["finished_at"]
    assert (second["attempt"], second["outcome"], second["finished_at"], second["error"]) == (
        2,
        None,
        None,
        None,
    )


def test_a_job_that_has_not_run_has_no_attempts(world: World) -> None:
    assert world.client.get(f"/jobs/{world.submit()}/attempts").get_json() == {"items": []}
