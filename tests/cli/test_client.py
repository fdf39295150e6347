"""The client against a real HTTP server: connections, answers, problems, patience."""

import socket
import subprocess
import sys
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
_OPTIONS = {"priority": 2, "timeout": 0.5, "labels": {"k": "v"}}
ASKED = [
    Asked(lambda c: c.submit("a.b"), job(), "POST", "/jobs", {"task": "a.b", "params": {}}),
    Asked(
        lambda c: c.submit("a.b", {"n": 1}, priority=2, timeout=0.5, labels={"k": "v"}),
        job(),
        "POST",
        "/jobs",
        {"task": "a.b", "params": {"n": 1}, **_OPTIONS},
    ),
    Asked(lambda c: c.job(7), job(), "GET", "/jobs/7"),
    Asked(lambda c: c.partials(7, 3, 10), _NO_PARTIALS, "GET", "/jobs/7/partials?after=3&limit=10"),
    Asked(lambda c: c.log(7), "", "GET", "/jobs/7/log"),
    Asked(lambda c: c.log(7, tail=5, attempt=2), "", "GET", "/jobs/7/log?tail=5&attempt=2"),
    Asked(lambda c: c.cancel(7), job(), "POST", "/jobs/7/cancel", {}),
    Asked(lambda c: c.cancel(7, grace_seconds=0), job(), "POST", "/jobs/7/cancel", {"grace_seconds": 0}),
    Asked(lambda c: c.retry(7), job(), "POST", "/jobs/7/retry", {}),
    Asked(lambda c: c.tasks(), {"items": [], "module_errors": {}}, "GET", "/tasks"),
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
    assert client.submit("a.b") == job(result={"ü": [1, None]})


def test_a_log_is_text_whatever_bytes_are_in_it(server: Server, client: Client) -> None:
    server.replies = [Reply(b"caf\xc3\xa9 \xff\n", headers={"Content-Type": "text/plain"})]
    assert client.log(1) == "café \ufffd\n"


def test_a_list_asks_for_the_next_page_only_when_it_is_needed(server: Server, client: Client) -> None:
    server.replies = [
        Reply({"items": [job(id=9), job(id=8)], "next": "c=1&x"}),
        Reply({"items": [job(id=7)], "next": None}),
    ]
    listed = client.jobs(states=["queued", "running"], task="t", labels={"who": "me"}, limit=1500)
    assert next(listed)["id"] == 9
    assert len(server.requests) == 1
    assert [one["id"] for one in listed] == [8, 7]
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
        client.job(1)
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
        client.job(1)
    assert {request.connection for request in server.requests} == {1}


def test_a_problem_leaves_the_connection_open(server: Server, client: Client) -> None:
    server.replies = [Reply({"title": "no"}, status=404), Reply(job())]
    with pytest.raises(ProblemError):
        client.job(1)
    client.job(1)
    assert [request.connection for request in server.requests] == [1, 1]


def test_a_connection_that_the_server_has_closed_meanwhile_is_opened_again_even_for_a_post(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(job(), hang_up="after"), Reply(job())]
    client.job(1)
    assert server.hung_up.wait(5)
    client.submit("a.b")
    assert [(request.method, request.connection) for request in server.requests] == [("GET", 1), ("POST", 2)]


def test_a_get_that_lost_its_connection_is_sent_again_once(server: Server, client: Client) -> None:
    server.replies = [Reply(job()), Reply(hang_up="before"), Reply(job(id=2))]
    client.job(1)
    assert client.job(2)["id"] == 2
    assert [request.connection for request in server.requests] == [1, 1, 2]


def test_a_post_that_lost_its_connection_is_not_sent_twice(server: Server, client: Client) -> None:
    server.replies = [Reply(job()), Reply(hang_up="before")]
    client.job(1)
    with pytest.raises(UnreachableError, match="closed the connection before it answered"):
        client.submit("a.b")
    assert [request.method for request in server.requests] == ["GET", "POST"]


def test_a_get_on_a_new_connection_that_is_closed_without_an_answer_fails(
    server: Server, client: Client
) -> None:
    server.replies = [Reply(hang_up="before")]
    with pytest.raises(UnreachableError, match="cannot be reached"):
        client.job(1)


def test_where_nothing_listens_the_error_says_how_to_start_it_and_how_to_look_elsewhere() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UnreachableError) as caught:
            Client(url).job(1)
    assert url in str(caught.value)
    assert "`jobrunner serve`" in str(caught.value)
    assert "--url" in str(caught.value)


def test_a_server_that_never_answers_is_given_up_after_the_time_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.05)
        with pytest.raises(UnreachableError, match=r"did not answer within 0\.05 s"):
            client.job(1)


def test_a_host_that_is_not_known_is_named() -> None:
    with pytest.raises(UnreachableError, match=r"http://no-such-host\.invalid:1 cannot be reached"):
        Client("http://no-such-host.invalid:1").job(1)


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
                client.job(1)


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
        client.submit("a.b", {"n": "x"})
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
        client.job(1)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "reply", [Reply(b"<html>"), Reply([]), Reply({"id": 1}), Reply(b"\xff"), Reply(b"{", 422)]
)
def test_an_answer_that_is_not_jobrunners_is_named_as_such(
    server: Server, client: Client, reply: Reply
) -> None:
    server.replies = [reply]
    with pytest.raises(BadAnswerError, match=r"is it jobrunner's\?"):
        client.job(1)


# -- patience ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "later", ["0", format_datetime(datetime.now(UTC), usegmt=True)], ids=["seconds", "date"]
)
def test_a_get_that_is_told_to_try_later_tries_later(server: Server, client: Client, later: str) -> None:
    server.replies = [Reply({}, 503, {"Retry-After": later}), Reply(job())]
    assert client.job(42)["id"] == 42


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "3600"}, {"Retry-After": "soon"}])
def test_a_get_does_not_try_again_without_being_told_when_or_when_that_is_too_far_off(
    server: Server, client: Client, headers: dict[str, str]
) -> None:
    server.replies = [Reply({"title": "not now"}, 503, headers)]
    with pytest.raises(ProblemError, match="not now"):
        client.job(1)


def test_a_post_never_tries_again_by_itself(server: Server, client: Client) -> None:
    server.replies = [Reply({"title": "not now"}, 503, {"Retry-After": "0"})]
    with pytest.raises(ProblemError, match="not now"):
        client.submit("a.b")
    assert len(server.requests) == 1


# -- what it loads -------------------------------------------------------------------------------


def test_importing_the_client_loads_neither_web_framework_nor_store() -> None:
    heavy = "{'flask', 'sqlalchemy', 'marshmallow', 'gunicorn', 'alembic', 'rich', 'click'}"
    code = f"import sys, jobrunner.client; print(*({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
