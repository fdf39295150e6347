"""What the watching thread asks: short questions, however many jobs there are."""

import sys
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from jobrunner.client import Client, ClientError, Job, ProblemError, UnreachableError
from jobrunner.executor.future import JobFuture
from jobrunner.executor.watch import MOST_RANGES, Watch
from tests.cli.scripted import Reply, Server, job
from tests.waiting import eventually


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, patience_seconds=0.1) as opened:
        yield opened


@pytest.fixture
def watch(client: Client) -> Watch:
    return Watch(client, {"executor": "x"})


def _futures(watch: Watch, client: Client, *ids: int) -> list[JobFuture[Any]]:
    return [JobFuture(Job(client._calls, job_id), watch.forget) for job_id in ids]


def _finished(*ids: int, **more: Any) -> Reply:
    done = {"state": "succeeded", "attempt": 1, "result": 1, "error": None, **more}
    return Reply({"items": [{"id": job_id, **done} for job_id in ids]})


def _asked(server: Server) -> list[str]:
    return [
        parse_qs(urlsplit(request.path).query)["ids"][0]
        for request in server.requests
        if request.path.startswith("/jobs/finished")
    ]


def test_jobs_of_others_in_between_make_no_question_longer(
    server: Server, client: Client, watch: Watch
) -> None:
    server.replies = [_finished(13), _finished(20), _finished(10, 17)]
    futures = _futures(watch, client, 10, 13, 17, 20)
    watch.add(futures)
    watch.join()
    assert _asked(server) == ["10-", "10,17-", "10,17,21-"]
    assert [future.result(0) for future in futures] == [1] * 4


def test_ten_thousand_jobs_take_few_requests(server: Server, client: Client, watch: Watch) -> None:
    ids = range(1, 10_001)
    server.replies = [_finished(*ids[first : first + 1000]) for first in range(0, 10_000, 1000)]
    futures = _futures(watch, client, *ids)
    watch.add(futures)
    watch.join()
    assert all(future.result(0) == 1 for future in futures)
    assert len(server.requests) == 10
    assert _asked(server)[9] == "9001-"


def test_more_ranges_than_fit_are_asked_for_in_turn_without_waiting(
    server: Server, client: Client, watch: Watch
) -> None:
    ids = range(1, 2 * MOST_RANGES + 2)
    rest = ids[::2]
    server.replies = [
        _finished(*ids[1::2]),
        _finished(),
        _finished(),
        _finished(*rest[:50]),
        _finished(*rest[50:]),
    ]
    watch.add(_futures(watch, client, *ids))
    watch.join()
    whole, second, first, *_ = _asked(server)
    assert whole == "1-"
    assert f"{first},{second}".split(",") == [*map(str, rest[:-1]), f"{rest[-1]}-"]
    assert all(len(request.path) < 4000 for request in server.requests)
    assert ["wait" in request.path for request in server.requests[:4]] == [True, False, False, False]


def test_a_result_that_is_too_long_for_a_list_is_asked_for(
    server: Server, client: Client, watch: Watch
) -> None:
    cut = {"id": 5, "state": "succeeded", "attempt": 1, "error": None}
    server.replies = [Reply({"items": [cut]}), Reply(job(id=5, state="succeeded", result="long"))]
    (future,) = _futures(watch, client, 5)
    watch.add([future])
    assert future.result(10) == "long"


def test_what_nobody_knows_is_no_reason_to_ask_without_rest(
    server: Server, client: Client, watch: Watch
) -> None:
    """A submission that was stored, although its answer was lost for good."""
    server.replies = [_finished(9)] * 1000
    (future,) = _futures(watch, client, 5)
    watch.add([future])
    assert wait([future], timeout=1.5).not_done  # without a rest, a thousand questions take less
    assert len(server.requests) < 20
    server.replies = [_finished(5)]
    assert future.result(10) == 1


def test_a_job_that_nobody_knows_is_told_once(server: Server, client: Client, watch: Watch) -> None:
    server.replies = [_finished(9), _finished(14, 15), _finished(18), _finished(5, 12)]
    futures = _futures(watch, client, 5, 12)
    watch.add(futures)
    watch.join()
    assert _asked(server) == ["5-", "5,12-", "5,12-13,16-", "5,12-13,16-17,19-"]
    assert [future.result(0) for future in futures] == [1, 1]


def test_what_is_told_of_a_job_before_its_submission_was_answered_is_not_lost(
    server: Server, client: Client, watch: Watch
) -> None:
    server.replies = [_finished(9), *[_finished(77)] * 1000]
    first, second = _futures(watch, client, 5, 9)
    watch.add([first])
    eventually(lambda: len(server.requests) > 1)  # from now on, nobody tells of 9 any more
    watch.add([second])
    assert second.result(10) == 1
    server.replies = [_finished(5)]
    assert first.result(10) == 1


def test_an_api_that_went_away_for_good_is_told_to_every_future_and_watching_can_begin_anew(
    server: Server, client: Client, watch: Watch
) -> None:
    server.replies = [Reply(job())]
    client.job(1).refresh()
    server.replies = [Reply(hang_up="before")] * 20
    futures = _futures(watch, client, 1, 2)
    watch.add(futures)
    assert all(isinstance(future.exception(10), UnreachableError) for future in futures)
    watch.join()
    server.replies = [_finished(3)]
    (later,) = _futures(watch, client, 3)
    watch.add([later])
    assert later.result(10) == 1


def test_one_refusal_of_a_proxy_costs_no_future(server: Server, client: Client, watch: Watch) -> None:
    server.replies = [
        Reply(job()),
        Reply(b"<h1>Bad gateway</h1>", 502, {"Content-Type": "text/html"}),
        _finished(1, 2),
    ]
    client.job(1).refresh()
    futures = _futures(watch, client, 1, 2)
    watch.add(futures)
    assert [future.result(10) for future in futures] == [1, 1]


def test_a_result_that_is_gone_when_it_is_asked_for_is_the_trouble_of_one_future_alone(
    server: Server, client: Client, watch: Watch
) -> None:
    cut = {"id": 5, "state": "succeeded", "attempt": 1, "error": None}
    server.replies = [Reply({"items": [cut]}), Reply({"title": "no such job"}, 404), _finished(6)]
    gone, fine = _futures(watch, client, 5, 6)
    watch.add([gone, fine])
    with pytest.raises(ProblemError, match="no such job"):
        gone.result(10)
    assert fine.result(10) == 1


def test_a_callback_that_exits_ends_nothing(
    server: Server, client: Client, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    server.replies = [_finished(1), _finished(2)]
    first, second = _futures(watch, client, 1, 2)
    first.add_done_callback(lambda _: sys.exit(3))
    watch.add([first, second])
    assert (first.result(10), second.result(10)) == (1, 1)
    watch.join()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("CRITICAL", "a callback of the future of job 1 failed")
    ]


def test_what_nobody_expects_is_told_to_every_future_and_watching_can_begin_anew(
    server: Server, client: Client, watch: Watch
) -> None:
    server.replies = [Reply({"items": [{}]})]
    futures = _futures(watch, client, 1, 2)
    watch.add(futures)
    for future in futures:
        with pytest.raises(RuntimeError, match="does not watch its jobs any more: KeyError"):
            future.result(10)
    watch.join()
    server.replies = [_finished(3)]
    (later,) = _futures(watch, client, 3)
    watch.add([later])
    assert later.result(10) == 1


def test_a_refusal_is_told_to_every_future(server: Server, client: Client, watch: Watch) -> None:
    server.replies = [Reply({"title": "The token is not known"}, 401)]
    (future,) = _futures(watch, client, 1)
    watch.add([future])
    with pytest.raises(ClientError, match="The token is not known"):
        future.result(10)


def test_a_job_that_finished_while_it_was_cancelled_tells_what_it_came_to(
    server: Server, client: Client, watch: Watch
) -> None:
    problem = {"type": "/problems/already-finished", "title": "The job has already finished"}
    (future,) = _futures(watch, client, 1)
    server.replies = [Reply(problem, 409)]
    assert not future.cancel()
    server.replies = [_finished(1)]
    watch.add([future])
    assert eventually(future.done)
    assert future.result(0) == 1
