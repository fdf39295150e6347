"""Map jobs: what is asked for, and their values, items and failures, whatever becomes of the connection."""

import itertools
import json
import time
from typing import Any

import pytest

from jobrunner.client import (
    Client,
    JobCancelledError,
    JobFailedError,
    ProblemError,
    Settled,
    UnreachableError,
)
from tests.cli.scripted import ERROR, Reply, Server, items, job, lines, swept

DONE = swept(job(state="succeeded", version=9), done=3)


def _now(version: int, state: str = "running", **more: Any) -> dict[str, Any]:
    return swept(job(state=state, version=version, **more))


def _asked(server: Server) -> list[str]:
    return [request.path for request in server.requests]


# -- submitting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ([{"n": 1}, {}], [{"n": 1}, {}]),
        (({"n": n} for n in range(2)), [{"n": 0}, {"n": 1}]),
        ({"n": range(5)}, {"n": {"range": [0, 5, 1]}}),
        ({"n": range(9, 0, -3), "m": (1, 2)}, {"n": {"range": [9, 0, -3]}, "m": [1, 2]}),
        ({"n": {"range": [1, 2]}}, {"n": {"range": [1, 2]}}),
        ({"n": iter("ab")}, {"n": ["a", "b"]}),
        ({"n": "ab"}, {"n": "ab"}),  # the API says what is wrong with it
    ],
)
def test_items_are_sent_as_the_api_takes_them(server: Server, client: Client, given: Any, sent: Any) -> None:
    server.replies = [Reply(_now(1, "queued"), 202)]
    assert client.map("a.b", given, task=5, self=6).id == 42
    (request,) = server.requests
    assert (request.path, request.body) == (
        "/jobs",
        {"task": "a.b", "params": {"task": 5, "self": 6}, "map": sent},
    )
    assert "Idempotency-Key" in request.headers


def test_options_of_map_jobs_are_said_where_all_options_are(server: Server, client: Client) -> None:
    server.replies = [Reply(_now(1, "queued"), 202)]
    options = {"max_failed": 3, "max_parallel": 2, "chunk_size": 10}
    asking = client.with_options(reduce="a.total", max_failed=3, max_parallel=2, chunk_size=10, priority=5)
    asking.map("a.b", {"n": [1]})
    assert server.requests[0].body == {
        "task": "a.b",
        "params": {},
        "map": {"n": [1]},
        "reduce": "a.total",
        "priority": 5,
        **options,
    }


def test_only_what_failed_may_be_asked_for_again(server: Server, client: Client) -> None:
    server.replies = [Reply(_now(5, "queued"))]
    assert client.job(42).retry(only_failed=True).state == "queued"
    assert (server.requests[0].path, server.requests[0].body) == ("/jobs/42/retry", {"only": "failed"})


def test_a_handle_tells_how_far_it_is(server: Server, client: Client) -> None:
    server.replies = [Reply(swept(job(state="running"), done=2, per_second=1.5, eta_seconds=0.7))]
    told = client.job(42).map
    assert told is not None
    assert (told["items"], told["done"], told["per_second"], told["eta_seconds"]) == (3, 2, 1.5, 0.7)


# -- values --------------------------------------------------------------------------------------


def test_the_result_is_the_list_of_values_and_values_come_one_by_one(server: Server, client: Client) -> None:
    server.replies = [Reply(DONE), lines(1, [2], "drei"), Reply(DONE), lines(1, [2], "drei"), Reply(DONE)]
    job = client.job(42)
    assert job.result() == [1, [2], "drei"]
    assert list(job.values()) == [1, [2], "drei"]
    assert _asked(server)[:2] == ["/jobs/42?wait=30", "/jobs/42/result"]
    assert server.requests[1].headers["Accept"] == "application/x-ndjson"


def test_values_that_are_cut_off_go_on_where_they_were(server: Server, client: Client) -> None:
    server.replies = [
        Reply(DONE),
        lines(1, cut=True),
        Reply(DONE),
        lines(1, 2)._replace(headers={"Content-Length": "9"}, hang_up="after"),
        Reply(DONE),
        lines(1, 2, 3),
        Reply(DONE),
    ]
    assert list(client.job(42).values()) == [1, 2, 3]


def test_what_reduces_the_values_makes_the_result_and_they_are_still_there(
    server: Server, client: Client
) -> None:
    done = swept(job(state="succeeded", result={"sum": 3}), done=3, reduce={"task": "a.total", "params": {}})
    told = items(0, 1, 2)["items"]
    server.replies = [Reply(done), lines(*told), Reply(items())]
    job_ = client.job(42)
    assert job_.result() == {"sum": 3}
    assert list(job_.values()) == [0, 1, 2]
    assert _asked(server)[1:] == [
        "/jobs/42/items?state=succeeded",
        "/jobs/42/items?state=succeeded&after=2&limit=1",
    ]


def test_a_map_job_whose_items_failed_raises_how_many_and_the_first(server: Server, client: Client) -> None:
    error = {**ERROR, "message": "2 of 3 items failed, the first is item 1: ValueError: no"}
    failed = swept(job(state="failed", error=error), done=1, failed=2)
    server.replies = [Reply(failed)] * 2
    for ask in (client.job(42).result, client.job(42).values):
        with pytest.raises(JobFailedError, match="2 of 3 items failed, the first is item 1"):
            ask()
    server.replies = [Reply(_now(5, "cancelled"))]
    with pytest.raises(JobCancelledError):
        client.job(42).values()
    server.replies = [Reply(_now(5))]
    with pytest.raises(TimeoutError):
        client.job(42).values(0)


# -- items ---------------------------------------------------------------------------------------


def test_items_come_once_and_in_order_across_a_cut(server: Server, client: Client) -> None:
    first, second, third = items(10, ERROR, 30, start=5)["items"]
    server.replies = [lines(first, cut=True), Reply(items(1)), lines(second, third), Reply(items())]
    assert [one["index"] for one in client.job(42).items("succeeded", "failed", after=4)] == [5, 6, 7]
    states = "state=succeeded&state=failed"
    assert _asked(server) == [
        f"/jobs/42/items?{states}&after={after}" for after in ("4", "5&limit=1", "5", "7&limit=1")
    ]


def test_a_job_that_is_no_map_job_has_no_items(server: Server, client: Client) -> None:
    server.replies = [Reply({"title": "The job is no map job"}, 409)]
    with pytest.raises(ProblemError, match="no map job"):
        next(client.job(42).items())


# -- as they are settled -------------------------------------------------------------------------


def _settled(*values: Any) -> list[Settled]:
    return [Settled(index, value, None) for index, value in enumerate(values)]


def test_what_is_settled_comes_in_order_as_soon_as_all_before_it_is(server: Server, client: Client) -> None:
    server.replies = [
        Reply(_now(3)),
        Reply(items(..., "b", "c")),
        Reply(_now(4)),
        Reply(items("a")),  # of this look, only the first was asked for
        Reply(_now(4)),
        Reply(items("b", start=1)),
        Reply(b"", 304),
        Reply(items(start=2)),
        Reply(_now(6)),
        Reply(items(ERROR, start=2)),
    ]
    came = list(client.job(42).settled())
    assert came == [*_settled("a", "b"), Settled(2, None, ERROR)]  # type: ignore[arg-type]
    asked = [path.partition("?")[2] for path in _asked(server) if "items" in path]
    asked_after = ["after=0&limit=1000", "after=1&limit=1000", "after=1&limit=1"]
    assert asked == ["limit=1000", "limit=1", *asked_after]
    assert server.requests[2].headers["If-None-Match"] == '"3"'


def test_a_page_that_holds_less_than_is_there_is_followed_by_the_next_at_once(
    server: Server, client: Client
) -> None:
    server.replies = [
        Reply(_now(3)),
        Reply(items("a", following=0)),
        Reply(_now(3)),
        Reply(items("b", "c", start=1)),
    ]
    assert list(client.job(42).settled()) == _settled("a", "b", "c")
    assert _asked(server)[2] == "/jobs/42"  # without a wait


def test_what_is_left_of_a_job_that_has_succeeded_comes_as_a_stream(server: Server, client: Client) -> None:
    server.replies = [
        Reply(_now(3)),
        Reply(items("a", following=0)),
        Reply(DONE),
        Reply(items("b", start=1, following=1)),
        lines("a", "b", "c"),
        Reply(DONE),
    ]
    assert list(client.job(42).settled()) == _settled("a", "b", "c")


def test_what_reduces_the_values_is_not_taken_for_them(server: Server, client: Client) -> None:
    done = swept(job(state="succeeded", result=3), done=3, reduce={"task": "a.total", "params": {}})
    server.replies = [
        Reply(done),
        Reply(items("a", following=0)),
        Reply(done),
        Reply(items("b", "c", start=1)),
    ]
    assert list(client.job(42).settled()) == _settled("a", "b", "c")


def test_a_job_that_ends_early_is_told_no_further(server: Server, client: Client) -> None:
    server.replies = [
        Reply(_now(3)),
        Reply(items("a", ..., "c")),
        Reply(_now(5, "cancelled")),
        Reply(items(..., "c", start=1)),
    ]
    assert list(client.job(42).settled()) == _settled("a")


def test_time_is_up_while_the_next_one_is_not_settled(server: Server, client: Client) -> None:
    server.replies = [Reply(_now(3)), Reply(items("a"))]
    coming = client.job(42).settled(0)
    assert next(coming).value == "a"
    with pytest.raises(TimeoutError):
        next(coming)


def test_time_is_up_although_the_api_would_wait_longer(server: Server, client: Client) -> None:
    server.replies = [Reply(_now(3)), *[Reply(items()), Reply(b"", 304)] * 100]
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        next(client.job(42).settled(0.3))
    assert time.monotonic() - start > 0.25
    assert len(server.requests) < 30  # it rests between them
    waits = [path.partition("wait=")[2] for path in _asked(server) if "wait" in path]
    assert set(waits) == {"1"}


def test_an_api_that_went_away_for_good_is_told(server: Server) -> None:
    server.replies = [Reply(_now(3)), Reply(items()), *[Reply(hang_up="before")] * 30]
    with Client(server.url, patience_seconds=0.05) as client, pytest.raises(UnreachableError):
        next(client.job(42).settled())


def test_what_is_not_its_turn_is_not_held(server: Server, client: Client) -> None:
    """However many are there: while the first is missing, no more than one of them is looked at."""
    blocked = itertools.repeat([Reply(items(..., "b")), Reply(_now(4))], 5)
    server.replies = [Reply(_now(3)), *itertools.chain(*blocked), Reply(items("a")), Reply(_now(5))]
    server.replies += [Reply(items("b", "c", start=1))]
    assert list(client.job(42).settled()) == _settled("a", "b", "c")
    limits = [path.rpartition("limit=")[2] for path in _asked(server) if "limit" in path]
    assert limits == ["1000", *["1"] * 5, "1000"]


def test_a_stream_that_ends_before_its_announced_length_is_cut(server: Server, client: Client) -> None:
    server.replies = [lines({"n": 1}, cut=True)]
    got = client._calls.lines("/x", "application/x-ndjson")
    assert json.loads(next(got)) == {"n": 1}
    with pytest.raises(UnreachableError, match="in the middle of an answer"):
        next(got)
