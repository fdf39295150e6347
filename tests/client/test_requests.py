"""What the client asks of a real HTTP server, in whose name, and with which options."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from jobrunner.client import Client, UnreachableError
from jobrunner.errors import SettingError
from tests.cli.scripted import Reply, Server, job


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
