"""The client against a real HTTP server: connections, answers, problems, patience."""

import os
import socket
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, NamedTuple

import pytest

from jobrunner.client import BadAnswerError, Client, ProblemError, UnreachableError
from jobrunner.errors import JobrunnerError, SettingError
from tests.cli.scripted import Reply, Server, job

# -- what is asked -------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A call, an answer to it, and the request that it should be."""

    call: Callable[[Client], Any]
    answer: Any
    method: str
    path: str
    body: Any = None


_NO_PARTIALS = {"items": [], "next_after": 3, "complete": False}
_TASK = {"name": "a/b c", "doc": "", "params": {}, "options": {}}
_QUEUE = {"name": "a/b", "paused": True, "paused_since": None, "jobs": {}}
_OPTIONS = {"priority": 2, "timeout": 0.5, "labels": {"k": "v"}}
ASKED = [
    Asked(lambda c: c.submit("a.b"), job(), "POST", "/jobs", {"task": "a.b", "params": {}}),
    Asked(
        lambda c: c.with_options(priority=2, timeout=0.5, labels={"k": "v"}).submit("a.b", n=1),
        job(),
        "POST",
        "/jobs",
        {"task": "a.b", "params": {"n": 1}, **_OPTIONS},
    ),
    Asked(
        lambda c: c.submit_many("a.b", [{"n": 1}, {}]),
        {"ids": [7, 8]},
        "POST",
        "/jobs/batch",
        [{"task": "a.b", "params": {"n": 1}}, {"task": "a.b", "params": {}}],
    ),
    Asked(lambda c: c.job(7).state, job(), "GET", "/jobs/7"),
    Asked(lambda c: c.job(7).refresh(), job(), "GET", "/jobs/7"),
    Asked(lambda c: c.job(7).wait(), job(state="failed"), "GET", "/jobs/7?wait=30"),
    Asked(lambda c: c.job(7).wait(2.5), job(state="failed"), "GET", "/jobs/7?wait=3"),
    Asked(lambda c: c.job(7).wait(0), job(), "GET", "/jobs/7"),
    Asked(
        lambda c: c.job(7).partials_so_far(3, 10), _NO_PARTIALS, "GET", "/jobs/7/partials?after=3&limit=10"
    ),
    Asked(lambda c: c.job(7).log(), "", "GET", "/jobs/7/log"),
    Asked(lambda c: c.job(7).log(tail=5, attempt=2), "", "GET", "/jobs/7/log?tail=5&attempt=2"),
    Asked(lambda c: c.job(7).cancel(), job(), "POST", "/jobs/7/cancel", {}),
    Asked(lambda c: c.job(7).cancel(grace_seconds=0), job(), "POST", "/jobs/7/cancel", {"grace_seconds": 0}),
    Asked(lambda c: c.job(7).retry(), job(), "POST", "/jobs/7/retry", {}),
    Asked(lambda c: c.cancel_queued([3, 4]), {"ids": [4]}, "POST", "/jobs/cancel", {"ids": [3, 4]}),
    Asked(
        lambda c: c.finished({"k": "v"}, [(3, 3), (5, 9), (12, None)], wait_seconds=4),
        {"items": []},
        "GET",
        "/jobs/finished?label=k%3Av&ids=3%2C5-9%2C12-&wait=4",
    ),
    Asked(lambda c: c.queues(), {"items": []}, "GET", "/queues"),
    Asked(lambda c: c.pause("a/b"), _QUEUE, "PATCH", "/queues/a%2Fb", {"paused": True}),
    Asked(lambda c: c.resume("a/b"), _QUEUE, "PATCH", "/queues/a%2Fb", {"paused": False}),
    Asked(lambda c: c.tasks(), {"items": [], "module_errors": {}}, "GET", "/tasks"),
    Asked(lambda c: c.catalogue(), {"items": [], "module_errors": {}}, "GET", "/tasks"),
    Asked(lambda c: c.task("a/b c"), _TASK, "GET", "/tasks/a%2Fb%20c"),
]


@pytest.mark.parametrize("asked", ASKED)
def test_each_method_is_one_request(server: Server, client: Client, asked: Asked) -> None:
    server.replies = [Reply(asked.answer)]
    asked.call(client)
    (request,) = server.requests
    assert (request.method, request.path, request.body) == (asked.method, asked.path, asked.body)


def test_the_job_that_the_api_shows_is_handed_on_as_it_is(server: Server, client: Client) -> None:
    server.replies = [Reply(job(result={"ü": [1, None]}), status=202)]
    assert client.submit("a.b").data == job(result={"ü": [1, None]})


def test_a_log_is_text_whatever_bytes_are_in_it(server: Server, client: Client) -> None:
    server.replies = [Reply(b"caf\xc3\xa9 \xff\n", headers={"Content-Type": "text/plain"})]
    assert client.job(1).log() == "café \ufffd\n"


def test_a_list_asks_for_the_next_page_only_when_it_is_needed(server: Server, client: Client) -> None:
    server.replies = [
        Reply({"items": [job(id=9), job(id=8)], "next": "c=1&x"}),
        Reply({"items": [job(id=7)], "next": None}),
    ]
    listed = client.jobs(state=["queued", "running"], task="t", labels={"who": "me"}, limit=1500)
    assert next(listed).id == 9
    assert len(server.requests) == 1
    assert [one.id for one in listed] == [8, 7]
    filters = "/jobs?task=t&state=queued&state=running&label=who%3Ame"
    assert [request.path for request in server.requests] == [
        f"{filters}&limit=1000",
        f"{filters}&limit=1000&after=c%3D1%26x",
    ]


def test_a_list_ends_at_its_limit_although_there_is_more(server: Server, client: Client) -> None:
    server.replies = [Reply({"items": [job(), job()], "next": "more"})]
    assert len(list(client.jobs(limit=2))) == 2


def test_an_address_may_have_a_path_and_need_no_scheme(server: Server) -> None:
    server.replies = [Reply(job())]
    with Client(f"127.0.0.1:{server.server_port}/below/") as client:
        client.job(1).refresh()
        assert client.url == f"http://127.0.0.1:{server.server_port}/below"
    assert server.requests[0].path == "/below/jobs/1"


@pytest.mark.parametrize(
    "url", ["", "http://", "ftp://host", "http://host:x", "http://host:70000", "http://[::1", "a?b"]
)
def test_what_is_no_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(SettingError, match=r"^url = .* \(from --url or JOBRUNNER_URL\)"):
        Client(url)


# -- connections ---------------------------------------------------------------------------------


def test_many_requests_go_over_one_connection(server: Server, client: Client) -> None:
    server.replies = [Reply(job()) for _ in range(5)]
    for _ in range(5):
        client.job(1).refresh()
    assert {request.connection for request in server.requests} == {1}


def test_a_problem_leaves_the_connection_open(server: Server, client: Client) -> None:
    server.replies = [Reply({"title": "no"}, status=404), Reply(job())]
    with pytest.raises(ProblemError):
        client.job(1).refresh()
    client.job(1).refresh()
    assert [request.connection for request in server.requests] == [1, 1]


def test_a_connection_that_the_server_has_closed_meanwhile_is_opened_again_even_for_a_post(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(job(), hang_up="after"), Reply(job())]
    client.job(1).refresh()
    assert server.hung_up.wait(5)
    client.job(1).retry()  # which is never sent twice
    assert [(request.method, request.connection) for request in server.requests] == [("GET", 1), ("POST", 2)]


def test_a_get_that_lost_its_connection_is_sent_again_once(server: Server, client: Client) -> None:
    server.replies = [Reply(job()), Reply(hang_up="before"), Reply(job(id=2))]
    client.job(1).refresh()
    assert client.job(2).refresh().data["id"] == 2
    assert [request.connection for request in server.requests] == [1, 1, 2]


def test_a_submission_that_lost_its_connection_is_sent_again_with_the_same_key(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(job()), Reply(hang_up="before"), Reply(hang_up="before"), Reply(job())]
    client.submit("a.b")
    client.submit("a.b")
    first, *others = [request.headers["Idempotency-Key"] for request in server.requests]
    assert len(others) == 3
    assert len(set(others)) == 1
    assert first not in others


def test_a_retry_that_lost_its_connection_is_not_sent_twice(server: Server, client: Client) -> None:
    """The job may have run and failed again in between."""
    server.replies = [Reply(job()), Reply(hang_up="before")]
    client.job(1).refresh()
    with pytest.raises(UnreachableError, match="closed the connection before it answered"):
        client.job(1).retry()
    assert [request.method for request in server.requests] == ["GET", "POST"]


def test_an_answer_that_ends_too_early_is_asked_for_again(server: Server, client: Client) -> None:
    cut = Reply(job(), headers={"Content-Length": "100000"}, hang_up="after")
    server.replies = [cut, Reply(job(id=7))]
    assert client.job(7).refresh().data["id"] == 7


def test_an_api_that_has_answered_before_is_waited_for_while_patience_lasts(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(job()), *[Reply(hang_up="before")] * 4, Reply(job(state="running"))]
    assert client.job(1).refresh().state == "queued"
    assert client.job(1).refresh().state == "running"


def test_an_api_that_is_away_for_longer_than_patience_lasts_is_given_up(server: Server) -> None:
    server.replies = [Reply(job()), *[Reply(hang_up="before")] * 9]
    with Client(server.url, patience_seconds=0.1) as client:
        client.job(1).refresh()
        with pytest.raises(UnreachableError):
            client.job(1).refresh()
    assert len(server.requests) < 9


def test_threads_share_a_client_each_with_a_connection_of_its_own(server: Server, client: Client) -> None:
    server.replies = [Reply(job()) for _ in range(80)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: client.job(1).refresh(), range(80)))
    assert len(server.requests) == 80
    assert server.connections <= 8


def test_a_forked_process_opens_connections_of_its_own(server: Server, client: Client) -> None:
    server.replies = [Reply(job()) for _ in range(3)]
    client.job(1).refresh()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # that a process with threads forks is the case at hand
        child = os.fork()
    if child == 0:
        try:
            client.job(1).refresh()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    client.job(1).refresh()
    assert [request.connection for request in server.requests] == [1, 2, 1]


def test_a_get_on_a_new_connection_that_is_closed_without_an_answer_fails(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(hang_up="before")] * 9
    with pytest.raises(UnreachableError, match="cannot be reached"):
        client.job(1).refresh()
    assert len(server.requests) == 1  # an API that has never answered is not waited for


def test_where_nothing_listens_the_error_says_how_to_start_it_and_how_to_look_elsewhere() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnreachableError) as caught:
            Client(url).job(1).refresh()
    assert url in str(caught.value)
    assert "`jobrunner serve`" in str(caught.value)
    assert "--url" in str(caught.value)


def test_a_server_that_never_answers_is_given_up_after_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.05)
        with pytest.raises(UnreachableError, match=r"did not answer within 0\.05 s"):
            client.job(1).refresh()


def test_a_host_that_is_not_known_is_named() -> None:
    with pytest.raises(UnreachableError, match=r"http://no-such-host\.invalid:1 cannot be reached"):
        Client("http://no-such-host.invalid:1").job(1).refresh()


def test_a_server_that_speaks_no_http_is_named_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        client = Client(f"http://127.0.0.1:{other.getsockname()[1]}", timeout_seconds=5)

        def greet() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        with ThreadPoolExecutor(1) as threads:
            threads.submit(greet)
            with pytest.raises(BadAnswerError, match="does not speak HTTP"):
                client.job(1).refresh()


# -- problems ------------------------------------------------------------------------------------


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
def test_a_get_does_not_try_again_without_being_told_when_or_when_that_is_too_far_off(
    server: Server, client: Client, headers: dict[str, str]
) -> None:
    server.replies = [Reply({"title": "not now"}, 503, headers)]
    with pytest.raises(ProblemError, match="not now"):
        client.job(1).refresh()


def test_a_submission_that_is_told_to_try_later_tries_later_with_the_same_key(
    server: Server, client: Client
) -> None:
    server.replies = [Reply({}, 503, {"Retry-After": "0"}), Reply(job())]
    client.submit("a.b")
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 1


def test_a_retry_is_never_asked_for_twice(server: Server, client: Client) -> None:
    server.replies = [Reply({"title": "not now"}, 503, {"Retry-After": "0"})]
    with pytest.raises(ProblemError, match="not now"):
        client.job(1).retry()
    assert len(server.requests) == 1


def test_a_refusal_says_when_to_ask_again(server: Server, client: Client) -> None:
    server.replies = [Reply({"title": "full"}, 503, {"Retry-After": "3600"})]
    with pytest.raises(ProblemError) as caught:
        client.submit("a.b")
    assert caught.value.retry_after_seconds == 3600


# -- who asks ------------------------------------------------------------------------------------


def test_a_token_goes_with_every_request(server: Server) -> None:
    server.replies = [Reply(job()), Reply(b"")]
    with Client(server.url, "abc") as client:
        client.submit("a.b")
        client.job(1).log()
    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer abc"] * 2


def test_address_and_token_may_come_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBRUNNER_URL", server.url)
    monkeypatch.setenv("JOBRUNNER_TOKEN", "abc")
    server.replies = [Reply(job()), Reply(job())]
    for client in (Client(), Client(token="")):
        client.job(1).refresh()
        client.close()
    assert [request.headers.get("Authorization") for request in server.requests] == ["Bearer abc", None]


@pytest.mark.parametrize("token", ["a b", "a\r\nX-Evil: 1", "é"])
def test_what_can_be_no_token_is_refused_and_not_told(token: str) -> None:
    with pytest.raises(SettingError) as caught:
        Client("127.0.0.1:1", token)
    assert token not in str(caught.value)


# -- options -------------------------------------------------------------------------------------


def test_parameters_may_have_the_names_of_options(server: Server, client: Client) -> None:
    server.replies = [Reply(job())]
    client.with_options(priority=1).submit("a.b", priority="high", task=1, self=2, options={})
    body = {"task": "a.b", "params": {"priority": "high", "task": 1, "self": 2, "options": {}}, "priority": 1}
    assert server.requests[0].body == body


def test_options_add_up_and_leave_the_client_that_they_were_asked_of_as_it_was(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(job()), Reply(job())]
    base = client.with_options(queue="night", labels={"a": "1"})
    base.with_options(queue="day", retries=2, labels={"b": "2"}).submit("a.b")
    base.submit("a.b")
    sent = [{**request.body, "params": None} for request in server.requests]
    common = {"task": "a.b", "params": None}
    assert sent == [
        {**common, "queue": "day", "retries": 2, "labels": {"a": "1", "b": "2"}},
        {**common, "queue": "night", "labels": {"a": "1"}},
    ]
    assert server.connections == 1


def test_a_key_that_is_given_goes_with_the_submission_and_with_no_other_clients(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(job()), Reply({"ids": [1]}), Reply(job())]
    mine = client.with_options(idempotency_key="night 17").with_options(priority=5)
    mine.submit("a.b")
    mine.submit_many("a.b", [{}])
    client.submit("a.b")
    keys = [request.headers["Idempotency-Key"] for request in server.requests]
    assert keys[:2] == ["night 17"] * 2
    assert keys[2] != "night 17"
    assert server.requests[0].body == {"task": "a.b", "params": {}, "priority": 5}


@pytest.mark.parametrize("key", ["", "x" * 256, "a\r\nX-Evil: 1", "é"])
def test_what_can_be_no_idempotency_key_is_refused_before_anything_is_sent(client: Client, key: str) -> None:
    with pytest.raises(SettingError, match="1 to 255 visible ASCII characters"):
        client.with_options(idempotency_key=key)


def test_a_deletion_is_sent_once_for_nobody_could_tell_what_a_second_404_means(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(b"", status=204), Reply(hang_up="before"), Reply(b"", status=204)]
    client.job(42).delete()
    with pytest.raises(UnreachableError, match="whether it did what was asked is open"):
        client.job(43).delete()
    assert [(request.method, request.path) for request in server.requests] == [
        ("DELETE", "/jobs/42"),
        ("DELETE", "/jobs/43"),
    ]
