"""A handle on a job: what it knows, when it looks, what it raises."""

import itertools
import json
import pickle
import traceback
from datetime import UTC, datetime
from typing import Any

import pytest

from jobrunner.client import (
    BadAnswerError,
    Client,
    JobCancelledError,
    JobFailedError,
    Partial,
    ProblemError,
    UnreachableError,
)
from tests.cli.scripted import Reply, Server, job

AT = "2026-11-23T01:02:03.456789Z"
FAILURE = {"kind": "exception", "type": "ValueError", "message": "no", "traceback": "Traceback: here\n"}


def _lines(*items: Any, cut: bool = False) -> Reply:
    body = b"".join(json.dumps(item).encode() + b"\n" if item else b"\n" for item in items)
    headers = {"Content-Length": str(len(body) + 1)} if cut else {}
    return Reply(body, headers=headers, hang_up="after" if cut else "")


def _partial(seq: int, attempt: int = 1) -> dict[str, Any]:
    return {"seq": seq, "attempt": attempt, "at": AT, "value": seq * 10}


def _page(*, complete: bool) -> Reply:
    return Reply({"items": [], "next_after": 0, "complete": complete})


# -- what it knows -------------------------------------------------------------------------------


def test_a_handle_looks_once_and_tells_what_it_saw(server: Server, client: Client) -> None:
    shown = job(state="running", attempt=2, started_at=AT, progress={"done": 1, "total": 2, "message": None})
    server.replies = [Reply(shown)]
    found = client.job(42)
    assert repr(found) == "<Job 42>"
    assert (found.id, found.state, found.attempt, found.is_final) == (42, "running", 2, False)
    assert (found.task, found.params, found.labels) == ("examples.primes", {"n": 100}, {})
    assert found.progress == {"done": 1, "total": 2, "message": None}
    assert (found.error, found.reason, found.finished_at) == (None, "waiting for a worker", None)
    assert found.created_at == found.started_at == datetime(2026, 11, 23, 1, 2, 3, 456789, UTC)
    assert repr(found) == "<Job 42 examples.primes running>"
    assert len(server.requests) == 1


def test_a_job_that_is_not_there_is_told_at_the_first_look(server: Server, client: Client) -> None:
    server.replies = [Reply({"title": "No job has this id"}, 404)]
    with pytest.raises(ProblemError, match="No job has this id"):
        client.job(1).state  # noqa: B018 - to look is what is tested


def test_jobs_of_a_batch_are_looked_at_when_they_are_asked(server: Server, client: Client) -> None:
    server.replies = [Reply({"ids": [7, 8]}, 202), Reply(job(id=8, state="failed"))]
    first, second = client.submit_many("a.b", [{}, {}])
    assert (first.id, second.state) == (7, "failed")
    assert [request.path for request in server.requests] == ["/jobs/batch", "/jobs/8"]


def test_no_jobs_at_all_need_no_request(server: Server, client: Client) -> None:
    assert client.submit_many("a.b", []) == []
    assert server.requests == []


# -- what comes of it ----------------------------------------------------------------------------


def test_a_result_is_waited_for(server: Server, client: Client) -> None:
    server.replies = [Reply(job(), 202), Reply(job(state="succeeded", result={"a": 1}))]
    submitted = client.submit("a.b")
    assert submitted.result() == {"a": 1}
    assert submitted.result() == {"a": 1}
    assert [request.path for request in server.requests] == ["/jobs", "/jobs/42?wait=30"]


def test_none_is_a_result(server: Server, client: Client) -> None:
    server.replies = [Reply(job(state="succeeded"))]
    assert client.job(42).result() is None


def test_a_long_result_that_a_list_has_left_out_is_asked_for(server: Server, client: Client) -> None:
    done = job(state="succeeded")
    server.replies = [Reply({"items": [done], "next": None}), Reply(done | {"result": "long"})]
    (listed,) = client.jobs()
    assert listed.result() == "long"
    assert listed.result() == "long"
    assert len(server.requests) == 2


def test_a_job_that_is_not_final_when_time_is_up_has_no_result(server: Server, client: Client) -> None:
    server.replies = [Reply(job(state="running"))]
    with pytest.raises(TimeoutError, match="job 42 is not final after 0 s"):
        client.job(42).result(0)


def test_time_is_up_although_the_api_would_wait_longer() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}")
        waiting = client.job(42)
        waiting._data = job()  # type: ignore[assignment]
        assert waiting.wait(0.05).state == "queued"


def test_a_failure_is_raised_with_all_that_is_known_of_it(server: Server, client: Client) -> None:
    server.replies = [Reply(job(state="failed", error=FAILURE))]
    with pytest.raises(JobFailedError, match=r"^job 42 failed: ValueError: no$") as caught:
        client.job(42).result()
    error = caught.value
    assert (error.job_id, error.kind, error.type, error.message) == (42, "exception", "ValueError", "no")
    assert error.error == FAILURE
    assert "Traceback: here" in "".join(traceback.format_exception(error))


def test_a_crash_is_named_by_its_kind(server: Server, client: Client) -> None:
    server.replies = [Reply(job(state="failed", error={"kind": "crashed", "message": "SIGSEGV"}))]
    with pytest.raises(JobFailedError, match=r"^job 42 failed: crashed: SIGSEGV$") as caught:
        client.job(42).result()
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("kind", "type_", "message", "said"),
    [
        ("exception", "ValueError", "no", "ValueError: no"),
        ("exception", "ValueError", "", "ValueError"),
        ("exception", "ValueError", "2 items failed: ValueError: no", "2 items failed: ValueError: no"),
        ("exception", "ValueError", "2 items failed: lost: no", "ValueError: 2 items failed: lost: no"),
        ("unserializable", "a.UnserializableError", "{1} is a set", "unserializable: {1} is a set"),
        ("crashed", None, "2 items failed: crashed: SIGSEGV", "2 items failed: crashed: SIGSEGV"),
    ],
)
def test_of_which_kind_a_failure_is_is_said_once(
    kind: str, type_: str | None, message: str, said: str
) -> None:
    failure: Any = {"kind": kind, "type": type_, "message": message}
    assert str(JobFailedError(42, failure)) == f"job 42 failed: {said}"


def test_a_cancelled_job_has_no_result(server: Server, client: Client) -> None:
    server.replies = [Reply(job(state="cancelled"))]
    with pytest.raises(JobCancelledError, match="job 42 was cancelled"):
        client.job(42).result()


@pytest.mark.parametrize(
    "error",
    [JobFailedError(1, FAILURE), JobCancelledError(1), ProblemError(503, {"title": "no"}, 2.0)],  # type: ignore[arg-type]
)
def test_errors_can_travel_between_processes(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(copy), str(copy), vars(copy).keys()) == (type(error), str(error), vars(error).keys())


def test_a_wait_that_the_api_refuses_rests_before_it_asks_again(server: Server, client: Client) -> None:
    server.replies = [Reply(job()), Reply(job(state="succeeded", result=1))]
    assert client.job(42).wait().is_final
    assert len(server.requests) == 2


def test_a_wait_survives_an_api_that_is_away_for_a_moment(server: Server, client: Client) -> None:
    server.replies = [
        Reply(job()),
        *[Reply(hang_up="before")] * 4,
        Reply({}, 503, {"Retry-After": "0"}),
        Reply(job(state="succeeded", result=1)),
    ]
    assert client.job(42).refresh().result() == 1


# -- streams -------------------------------------------------------------------------------------


def test_partial_results_come_as_objects_and_signs_of_life_as_nothing(server: Server, client: Client) -> None:
    server.replies = [_lines(_partial(3), None, _partial(5, attempt=2)), _page(complete=True)]
    at = datetime(2026, 11, 23, 1, 2, 3, 456789, UTC)
    assert list(client.job(42).partials()) == [Partial(3, 1, at, 30), Partial(5, 2, at, 50)]
    assert server.requests[0].headers["Accept"] == "application/x-ndjson"


def test_a_stream_that_is_cut_goes_on_after_the_last_that_came(server: Server, client: Client) -> None:
    server.replies = [
        _lines(_partial(3), _partial(4), cut=True),
        _page(complete=False),
        _lines(_partial(6), cut=True),
        _page(complete=False),
        _lines(_partial(9)),
        _page(complete=True),
    ]
    assert [one.seq for one in client.job(42).partials()] == [3, 4, 6, 9]
    streams = [request.path for request in server.requests if "limit" not in request.path]
    assert streams == [f"/jobs/42/partials?after={seq}" for seq in (0, 4, 6)]


def test_a_line_that_is_cut_in_the_middle_is_not_half_a_value(server: Server, client: Client) -> None:
    cut = _lines(_partial(3), _partial(4), cut=True)
    server.replies = [cut._replace(body=cut.body[:-9]), _page(complete=False)]
    server.replies += [_lines(_partial(4)), _page(complete=True)]
    assert [one.seq for one in client.job(42).partials()] == [3, 4]


def test_a_stream_that_ends_before_the_job_does_is_opened_again(server: Server, client: Client) -> None:
    server.replies = [_lines(), _page(complete=False), _lines(_partial(3)), _page(complete=True)]
    assert [one.seq for one in client.job(42).partials()] == [3]


def test_partial_results_may_begin_in_the_middle(server: Server, client: Client) -> None:
    server.replies = [_lines(_partial(9)), _page(complete=True)]
    assert [one.seq for one in client.job(42).partials(after=7)] == [9]
    assert server.requests[0].path == "/jobs/42/partials?after=7"


def test_a_stream_that_is_left_in_the_middle_is_closed(server: Server, client: Client) -> None:
    server.replies = [_lines(*map(_partial, range(1, 5))), Reply(job())]
    following = client.job(42).partials()
    assert [one.seq for one in itertools.islice(following, 2)] == [1, 2]
    following.close()  # type: ignore[attr-defined]
    client.job(42).refresh()
    assert [request.connection for request in server.requests] == [1, 2]


def test_a_stream_of_an_api_that_went_away_for_good_ends_with_an_error(server: Server) -> None:
    server.replies = [Reply(job()), *[Reply(hang_up="before")] * 30]
    with Client(server.url, patience_seconds=0.05) as client, pytest.raises(UnreachableError):
        list(client.job(42).refresh().partials())


def test_a_stream_of_something_else_is_named_as_such(server: Server, client: Client) -> None:
    server.replies = [Reply(b"<html>\n")]
    with pytest.raises(BadAnswerError, match=r"is it jobrunner's\?"):
        list(client.job(42).partials())


def _frame(seq: int, name: str, **data: Any) -> bytes:
    told = json.dumps({"seq": seq, "attempt": 1, "at": AT, **data})
    return f"id: {seq}\nevent: {name}\ndata: {told}\n\n".encode()


EVENTS = (
    b"retry: 2000\n\n"
    + _frame(1, "state", state="queued")
    + b":\n\n"
    + _frame(2, "log", text="one\ntw")
    + _frame(3, "partial", value=[1])
    + _frame(4, "log", text="o\n")
)


def test_events_come_once_and_in_order_across_a_cut(server: Server, client: Client) -> None:
    end = _frame(5, "state", state="succeeded") + _frame(5, "end", state="succeeded")
    server.replies = [
        Reply(EVENTS, headers={"Content-Length": "9999"}, hang_up="after"),
        Reply(job(state="running", version=4)),
        Reply(end),
        Reply(job(state="succeeded", version=5)),
    ]
    told = list(client.job(42).events())
    assert [(one["seq"], one["event"]) for one in told] == [
        (1, "state"),
        (2, "log"),
        (3, "partial"),
        (4, "log"),
        (5, "state"),
    ]
    assert told[2]["value"] == [1]
    assert server.requests[2].path == "/jobs/42/events?after=4"


def test_a_log_is_followed_in_pieces(server: Server, client: Client) -> None:
    server.replies = [Reply(EVENTS), Reply(job(state="succeeded", version=4))]
    assert "".join(client.job(42).log(follow=True)) == "one\ntwo\n"


def test_events_that_were_all_seen_are_none(server: Server, client: Client) -> None:
    server.replies = [Reply(b"", 204), Reply(job(state="succeeded", version=7))]
    assert list(client.job(42).events(after=7)) == []
