"""What the client makes of problems, and when it asks again."""

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from jobrunner.client import BadAnswerError, Client, ProblemError
from jobrunner.errors import JobrunnerError
from tests.cli.scripted import Reply, Server, job


def test_a_problem_becomes_an_error_with_all_its_members(server: Server, client: Client) -> None:
    problem = {
        "type": "/problems/invalid-fields",
        "title": "Some fields are not valid",
        "detail": "#/params/n: must be of type integer",
        "errors": [{"pointer": "#/params/n", "detail": "must be of type integer"}],
    }
    server.replies = [Reply(problem, status=422)]
    with pytest.raises(ProblemError) as caught:
        client.submit("a.b", n="x")
    error = caught.value
    assert isinstance(error, JobrunnerError)
    assert (error.status, error.type, error.title, error.detail) == (
        422,
        problem["type"],
        problem["title"],
        problem["detail"],
    )
    assert error.errors == problem["errors"]
    assert str(error) == problem["detail"]


def test_a_problem_without_a_detail_is_told_by_its_title(server: Server, client: Client) -> None:
    server.replies = [Reply({"title": "The queue is full"}, status=503)]
    with pytest.raises(ProblemError, match=r"^The queue is full$"):
        client.submit("a.b")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            Reply(b"<h1>Bad gateway</h1>", 502, {"Content-Type": "text/html"}),
            "HTTP status 502: <h1>Bad gateway</h1>",
        ),
        (Reply([1], 400), "HTTP status 400: [1]"),
    ],
)
def test_an_error_that_is_no_problem_document_tells_its_status_and_what_it_says(
    server: Server, client: Client, reply: Reply, said: str
) -> None:
    server.replies = [reply]
    with pytest.raises(ProblemError) as caught:
        client.job(1).refresh()
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "reply", [Reply(b"<html>"), Reply([]), Reply({"id": 1}), Reply(b"\xff"), Reply(b"{", 422)]
)
def test_an_answer_that_is_not_jobrunners_is_named_as_such(
    server: Server, client: Client, reply: Reply
) -> None:
    server.replies = [reply]
    with pytest.raises(BadAnswerError, match=r"is it jobrunner's\?"):
        client.job(1).refresh()


# -- patience ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "later", ["0", format_datetime(datetime.now(UTC), usegmt=True)], ids=["seconds", "date"]
)
def test_a_get_that_is_told_to_try_later_tries_later(server: Server, client: Client, later: str) -> None:
    server.replies = [Reply({}, 503, {"Retry-After": later}), Reply(job())]
    assert client.job(42).refresh().data["id"] == 42


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "3600"}, {"Retry-After": "soon"}])
def test_a_get_does_not_try_again_where_no_api_has_answered_yet_or_when_that_is_too_far_off(
    server: Server, client: Client, headers: dict[str, str]
) -> None:
    server.replies = [Reply({"title": "not now"}, 503, headers)]
    with pytest.raises(ProblemError, match="not now"):
        client.job(1).refresh()


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_api_that_a_proxy_does_not_reach_is_waited_for_as_one_that_does_not_answer(
    server: Server, client: Client, status: int
) -> None:
    away = Reply(b"<h1>away</h1>", status, {"Content-Type": "text/html"})
    server.replies = [Reply(job()), away, away, Reply(job(id=2)), away, Reply(job(id=3))]
    client.job(1).refresh()
    assert client.job(2).refresh().data["id"] == 2
    assert client.submit("a.b").id == 3
    assert len({request.headers["Idempotency-Key"] for request in server.requests[4:]}) == 1


@pytest.mark.parametrize("status", [429, 500, 501])
def test_what_the_api_itself_refuses_is_asked_for_once(server: Server, client: Client, status: int) -> None:
    server.replies = [Reply(job()), Reply({"title": "no"}, status)]
    client.job(1).refresh()
    with pytest.raises(ProblemError, match="no"):
        client.job(1).refresh()


def test_an_api_that_a_proxy_does_not_reach_for_longer_than_patience_lasts_is_given_up(
    server: Server,
) -> None:
    server.replies = [Reply(job()), *[Reply(b"away", 502, {"Content-Type": "text/html"})] * 9]
    with Client(server.url, patience_seconds=0.1) as client:
        client.job(1).refresh()
        with pytest.raises(ProblemError, match="HTTP status 502: away"):
            client.job(1).refresh()
    assert len(server.requests) < 9


def test_a_submission_that_is_told_to_try_later_tries_later_with_the_same_key(
    server: Server, client: Client
) -> None:
    server.replies = [Reply({}, 503, {"Retry-After": "0"}), Reply(job())]
    client.submit("a.b")
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 1


@pytest.mark.parametrize(
    "reply", [Reply({"title": "not now"}, 503, {"Retry-After": "0"}), Reply({"title": "not now"}, 504)]
)
def test_a_retry_is_never_asked_for_twice(server: Server, client: Client, reply: Reply) -> None:
    server.replies = [Reply(job()), reply]
    client.job(1).refresh()
    with pytest.raises(ProblemError, match="not now"):
        client.job(1).retry()
    assert len(server.requests) == 2


def test_a_refusal_says_when_to_ask_again(server: Server, client: Client) -> None:
    server.replies = [Reply({"title": "full"}, 503, {"Retry-After": "3600"})]
    with pytest.raises(ProblemError) as caught:
        client.submit("a.b")
    assert caught.value.retry_after_seconds == 3600
