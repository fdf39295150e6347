"""Requests that no honest client sends: what two readers could take for two things, and what leads elsewhere."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.api.serving import Server, served
from tests.api.world import made_in
from tests.waiting import eventually

JOB = b'{"task": "demo.nothing"}'
POST = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
CLOSE = b"Connection: close\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("wire")
    made_in(directory).close()
    with served(directory, api_threads=4, log_level="debug") as made:
        yield made


def statuses(came: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d+)", came, re.MULTILINE)]


def count(server: Server) -> int:
    """Return how many jobs there are."""
    return len(server.ask("GET", "/jobs?limit=1000")[1]["items"])


# -- requests that two readers could take for two things --------------------------------------------

SECOND = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = [
    POST + b"Content-Length: 6\r\n" + CHUNKED + b"\r\n0\r\n\r\nX",
    POST + CHUNKED + b"Content-Length: 6\r\n\r\n0\r\n\r\nX",
    POST + b"Content-Length: 24\r\nContent-Length: 24\r\n\r\n" + JOB,
    POST + b"Content-Length: 24\r\nContent-Length: 0\r\n\r\n" + JOB,
    POST + b"Content-Length: 24, 24\r\n\r\n" + JOB,
    POST + b"Content-Length: +24\r\n\r\n" + JOB,
    POST + b"Content-Length: -1\r\n\r\n" + JOB,
    POST + b"Content-Length: 0x18\r\n\r\n" + JOB,
    POST + b"Content-Length: 2_4\r\n\r\n" + JOB,
    POST + b"Content-Length: \xb2\xb4\r\n\r\n" + JOB,
    POST + b"Content-Length : 24\r\n\r\n" + JOB,
    POST + b"Content_Length: 24\r\nX: y\r\n Content-Length: 24\r\n\r\n" + JOB,
    POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    POST + CHUNKED + b"\r\n0x0\r\n\r\n",
    POST + CHUNKED + b"\r\n-1\r\n\r\n",
    POST + CHUNKED + b"\r\n0\n\r\n\r\n",
    GET.replace(b"Host", b"Ho st") + b"\r\n",
    GET + b"X: a\nY: b\r\n\r\n",
    GET + b"X: a\rY: b\r\n\r\n",
    GET + b"X: \x00\r\n\r\n",
    GET + b"Host: elsewhere\r\n\r\n",
    GET + b": empty\r\n\r\n",
    b"GET  /livez HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1 \r\n\r\n",
    b"GET /livez HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]


@pytest.mark.parametrize("request_", SMUGGLED)
def test_a_request_of_two_meanings_is_refused_and_nothing_behind_it_is_read(
    server: Server, request_: bytes
) -> None:
    before = count(server)
    came = server.raw(request_ + SECOND)
    [status] = statuses(came)
    assert status in (400, 501, 505)
    assert b"smuggled" not in came
    assert count(server) == before


def test_too_many_headers_are_refused(server: Server) -> None:
    many = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    assert server.raw(GET + many + b"\r\n").startswith(b"HTTP/1.1 431 ")
    endless = b"X: " + b"y" * 8000 + b"\r\n"
    assert server.raw(GET + endless * 200).startswith(b"HTTP/1.1 431 ")
    assert server.raw(GET + b"X: " + b"y" * 9000 + b"\r\n\r\n").startswith(b"HTTP/1.1 431 ")
    assert server.raw(b"GET /" + b"y" * 5000 + b" HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 414 ")
    assert server.raw(b"G" * 100_000).startswith(b"HTTP/1.1 414 ")


# -- many requests in one breath -------------------------------------------------------------------


def test_requests_that_come_in_one_breath_are_answered_each_in_its_turn(server: Server) -> None:
    submit = POST + b"Content-Length: 24\r\n\r\n" + JOB
    refused = POST + b"Content-Length: 5\r\n\r\nwrong"
    chunked = POST + CHUNKED + b"\r\n18\r\n" + JOB + b"\r\n0\r\n\r\n"
    unread = GET + b"Content-Length: 11\r\n\r\nGET / HTTP/"
    head = GET.replace(b"GET", b"HEAD") + b"\r\n"
    came = server.raw(submit + refused + chunked + unread + head + GET + CLOSE + SECOND)
    assert statuses(came) == [202, 400, 202, 200, 200, 200]
    assert b"smuggled" not in came


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (b"a\r\nX-Evil: 1", 202),
        (b"a\nb", 400),
        (b"a\rb", 400),
        (b"a\x00b", 400),
        (b"a\xe9b", 400),
        (b"", 400),
    ],
)
def test_a_line_break_in_an_idempotency_key_makes_no_key_of_it(
    server: Server, key: bytes, status: int
) -> None:
    headers = b"Idempotency-Key: " + key + b"\r\nContent-Length: 24\r\n" + CLOSE
    came = server.raw(POST + headers + JOB)
    assert statuses(came) == [status]
    assert b"x-evil" not in came.lower()


# -- methods ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "status"),
    [
        *((b"TRACE", 405), (b"PROPFIND", 405), (b"QUERY", 405), (b"PATCH", 405), (b"GETS", 405)),
        *((b"get", 400), (b"G", 400), (b"M" * 40, 400), (b"GE\x00T", 400), (b"GET\t", 400), (b"\xc7ET", 400)),
    ],
)
def test_a_method_that_nobody_knows_does_nothing(server: Server, method: bytes, status: int) -> None:
    came = server.raw(method + GET.removeprefix(b"GET") + b"X-Secret: s3cret\r\n" + CLOSE)
    assert statuses(came) == [status]
    assert b"s3cret" not in came


@pytest.mark.parametrize(
    "line", [b"CONNECT evil.example:80", b"CONNECT /jobs", b"OPTIONS *", b"GET *", b"GET livez"]
)
def test_a_target_of_another_kind_leads_nowhere(server: Server, line: bytes) -> None:
    [status] = statuses(server.raw(line + b" HTTP/1.1\r\nHost: localhost\r\n" + CLOSE))
    assert status in (400, 404, 405)


# -- paths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        *(
            b"/jobs/../livez",
            b"/jobs/%2e%2e/livez",
            b"/jobs/..%2flivez",
            b"/jobs/1/..",
            b"/./livez",
            b"/livez/.",
        ),
        *(b"/%2e%2e/%2e%2e/etc/passwd", b"/problems/..%2f..%2fetc%2fpasswd", b"/..\\livez", b"/jobs%5c1"),
        *(b"/livez//x", b"/jobs//1", b"///evil.example/livez", b"/livez%00", b"/livez%00.json"),
        *(b"/livez%0d%0aX-Evil:%201", b"/livez%20", b"/livez;x", b"/livez%3fx", b"/LIVEZ", b"/livez%2f%2f"),
        *(b"/jobs/%c0%ae%c0%ae/livez", b"/%c1%9clivez", b"/%e0%80%aflivez", b"/%ff", b"/jobs/%ed%a0%80"),
        *(b"http://evil.example/none", b"https://user@evil.example:99/jobs/../livez"),
    ],
)
def test_a_path_that_plays_tricks_leads_nowhere(server: Server, target: bytes) -> None:
    came = server.raw(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + CLOSE)
    head, _, body = came.partition(b"\r\n\r\n")
    assert statuses(came) == [404]
    assert json.loads(body)["type"] == "/problems/path-not-found"
    assert b"location" not in head.lower()
    assert b"evil" not in head.lower()


@pytest.mark.parametrize("target", [b"/jobs/\xff", b"/jobs/\xc3\xa9", b"/a b", b"http://[/livez"])
def test_a_target_that_is_none_is_refused(server: Server, target: bytes) -> None:
    assert statuses(server.raw(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + CLOSE)) == [400]


@pytest.mark.parametrize(
    "target", [b"http://evil.example/livez", b"//livez", b"/livez/", b"/%6civez", b"/livez?"]
)
def test_a_path_may_be_written_in_some_ways_and_is_the_same(server: Server, target: bytes) -> None:
    came = server.raw(GET.replace(b"/livez", target) + CLOSE)
    assert statuses(came) == [200]
    assert b"evil" not in came
    assert came.endswith(b'{"alive":true}\n')


@pytest.mark.parametrize(
    "name", [b"SCRIPT_NAME", b"PATH_INFO", b"REMOTE_ADDR", b"SCRIPT-NAME", b"X-Forwarded-Prefix"]
)
@pytest.mark.parametrize("value", [b"/x", b"/livez", b"/jobs"])
def test_no_header_changes_where_a_path_leads(server: Server, name: bytes, value: bytes) -> None:
    header = name + b": " + value + b"\r\n"
    assert statuses(server.raw(GET + header + CLOSE)) == [200]
    assert statuses(server.raw(GET.replace(b"/livez", value + b"/livez") + header + CLOSE)) == [404]


@pytest.mark.parametrize(
    ("header", "status"), [(b"h2c\r\nHTTP2-Settings: AAMAAABk", 200), (b"websocket", 400)]
)
def test_no_connection_becomes_one_of_another_kind(server: Server, header: bytes, status: int) -> None:
    upgrade = b"Upgrade: " + header + b"\r\nConnection: Upgrade, close\r\n\r\n"
    assert statuses(server.raw(GET + upgrade)) == [status]


# -- the log ----------------------------------------------------------------------------------------


def test_nobody_writes_a_line_of_his_own_into_the_log(tmp_path: Path) -> None:
    world = made_in(tmp_path)
    store = world.settings.data / "jobrunner.db"
    world.close()
    evil = "\r\n12:00:00 api        ERROR   forged\x1b[2K\u2028forged\x85forged"
    coded = quote(evil).encode()
    with served(tmp_path, api_threads=2, log_level="debug") as server:

        def send_all() -> None:
            for target in (b"/" + coded, b"/tasks/" + coded, b"/jobs?task=" + coded, b"/jobs?after=" + coded):
                server.raw(
                    b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nX-Id: " + coded + b"\r\n" + CLOSE
                )
            for body in ({"task": evil}, {"task": "demo.nothing", "queue": evil, "labels": {evil: evil}}):
                server.ask("POST", "/jobs", body)
            for line in (evil.encode(), b"GET /\r" + evil.encode(), GET + b"X: y" + evil.encode()):
                server.raw(line + CLOSE)

        send_all()
        store.rename(tmp_path / "away")
        send_all()
        eventually(lambda: "is not there" in server.said)
        lines = server.said.split("\n")[:-1]
    assert [line for line in lines if not re.match(r"\d\d:\d\d:\d\d api +(INFO|WARNING) ", line)] == []
    assert not [line for line in lines if re.search(r"[\x00-\x1f\x7f-\x9f\u2028]", line)]
