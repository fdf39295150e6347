"""Clients that mean harm: whatever they do, others are answered, and nothing is done that should not be."""

import contextlib
import json
import re
import select
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from jobrunner.api.lingering import Lingering
from jobrunner.api.patience import PatientSocket, TooSlowError
from jobrunner.api.server import most_connections
from tests.api.serving import Server, served
from tests.api.world import World, made_in, problem
from tests.waiting import eventually

JOB = b'{"task": "demo.nothing"}'
POST = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
CROWD = 320  # more than all threads of one process


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    """As many threads as by default."""
    made_in(directory).close()
    with served(directory) as made:
        yield made


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Four threads, of which one may wait for the slow; and a job with a result of 8 MB."""
    directory = tmp_path_factory.mktemp("small")
    world = made_in(directory)
    world.succeeded("x" * (8 << 20))
    world.close()
    with served(directory, api_threads=4, max_waiting=0) as made:
        yield made


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


@contextlib.contextmanager
def crowd(server: Server, first: bytes, size: int = CROWD) -> Iterator[list[socket.socket]]:
    """Hold many connections open, on each of which `first` was sent."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(server)) for _ in range(size)]
        for one in held:
            one.sendall(first)
        yield held


@contextlib.contextmanager
def dribbling(held: list[socket.socket], drop: bytes) -> Iterator[None]:
    """Send a little on each, again and again."""
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.05):
            for one in held:
                with contextlib.suppress(OSError):
                    one.sendall(drop)

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        yield
    finally:
        over.set()
        dripping.join(20)


def answer(connection: socket.socket) -> tuple[int, Any]:
    """Return the status and the value of the answer that ends the connection."""
    head, _, body = everything(connection).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def everything(connection: socket.socket) -> bytes:
    """Return what comes until the connection is closed at the other end."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def is_quick(server: Server) -> bool:
    """Whether an answer comes soon, although the machine may have much to do."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(GET + b"Connection: close\r\n\r\n")
        return answer(connection)[0] == 200


# -- who is slow ---------------------------------------------------------------------------------

HALVES = {
    "nothing": (b"", b""),
    "half a line": (b"GET /li", b"x"),
    "half a head": (GET + b"X-Slow: ", b"x"),
    "half a body": (POST + b"Content-Length: 100000\r\n\r\n{", b" "),
    "half a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n{", b" "),
    "chunks without end": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n"),
    "a promise": (POST + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", b""),
    "a body that is not wanted": (GET + b"Content-Length: 1000000\r\n\r\n", b"x"),
    "an answer and no end": (GET + b"Connection: close\r\n\r\n", b""),
}


@pytest.mark.parametrize("how", HALVES)
def test_a_crowd_that_sends_byte_by_byte_does_not_keep_others_out(server: Server, how: str) -> None:
    first, drop = HALVES[how]
    with crowd(server, first) as held, dribbling(held, drop):
        assert is_quick(server)
        assert is_quick(server)
    eventually(server.answers)
    assert "Traceback" not in server.said


def test_more_connections_than_may_be_do_not_keep_others_out(small: Server) -> None:
    with crowd(small, b"", most_connections(4) + 50) as held:
        assert is_quick(small)
        assert held[0].recv(1) == b""  # who came first, and said nothing, had to go
        half = held[len(held) // 2]
        assert not select.select([half], [], [], 0)[0]  # but it was not waited for all to go
        for one in held[:-20:-1]:
            one.sendall(GET + b"\r\n")
    assert "Traceback" not in small.said


def serve_what_came(poller: selectors.BaseSelector, between: Callable[[], None]) -> None:
    """Do as the worker's loop does; something happens between finding what is readable, and reading it."""
    found = poller.select(5)
    assert found
    between()
    for key, _ in found:
        key.data(key.fileobj)


def test_who_lingers_is_closed_when_his_client_has_gone_or_to_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jobrunner.api.lingering.MOST", 1)
    pairs = [socket.socketpair() for _ in range(2)]
    (first, its_client), (second, other_client) = pairs
    with selectors.DefaultSelector() as poller:
        lingering = Lingering(poller)
        lingering.add(first)
        its_client.sendall(b"more")
        serve_what_came(poller, lambda: lingering.add(second))
        assert (first.fileno(), second.fileno() >= 0) == (-1, True)
        other_client.sendall(b"more")
        serve_what_came(poller, lambda: None)
        assert second.fileno() >= 0
        other_client.close()
        serve_what_came(poller, lambda: None)
        assert second.fileno() == -1
        assert not poller.get_map()
    its_client.close()


def test_who_is_closed_to_make_room_is_not_served(server: Server) -> None:
    for _ in range(3):  # some are closed in the very moment in which their first byte comes
        with crowd(server, GET[:3], most_connections(16 + 256) + 100):
            assert is_quick(server)
    assert "Traceback" not in server.said


def test_a_crowd_that_does_not_read_its_answers_does_not_keep_others_out(small: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(("127.0.0.1", small.port))
            one.sendall(b"GET /jobs/1/result HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert is_quick(small)
        assert is_quick(small)
    assert "Traceback" not in small.said


def test_who_is_too_slow_is_told_so(small: Server) -> None:
    body = POST + b"Content-Length: 100\r\nConnection: close\r\n\r\n{"
    for first, slug in ((body, "/problems/body-too-slow"), (GET, "about:blank")):
        with crowd(small, first, 4) as held:  # of which one may take its time
            told = [answer(one) for one in eventually(lambda: those_answered(held, 3))]
        assert {(status, said["type"]) for status, said in told} == {(408, slug)}


def test_who_is_answered_and_then_too_slow_is_not_answered_twice(small: Server) -> None:
    with crowd(small, GET + b"Content-Length: 1000\r\n\r\n", 4) as held:
        said = [everything(one) for one in held]
    assert [came.count(b"HTTP/1.1 ") for came in said] == [1, 1, 1, 1]


def those_answered(held: list[socket.socket], count: int) -> list[socket.socket]:
    """Return the connections on which something came, as soon as there are so many."""
    found = select.select(held, [], [], 0)[0]
    return found if len(found) >= count else []


def test_one_who_is_slow_is_waited_for(small: Server) -> None:
    pause = threading.Event()
    with connect(small) as connection:
        for piece in (
            POST[:30],
            POST[30:] + b"Connection: close\r\nContent-Length: 24\r\n\r\n",
            JOB[:9],
            JOB[9:],
        ):
            connection.sendall(piece)
            pause.wait(0.4)  # longer than everybody is waited for
        assert answer(connection)[0] == 202


def test_an_answer_arrives_whole_although_its_request_was_not_read(small: Server) -> None:
    with connect(small) as connection:
        connection.sendall(POST.replace(b"/jobs", b"/none") + b"Content-Length: 3000000\r\n\r\n")
        connection.sendall(b" " * 3_000_000)
        connection.shutdown(socket.SHUT_WR)
        assert answer(connection)[0] == 404


def pair(places: int) -> tuple[PatientSocket, socket.socket]:
    ours, theirs = socket.socketpair()
    return PatientSocket(ours, threading.Semaphore(places)), theirs


def test_patience_ends_also_with_a_place_among_the_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrunner.api.patience.SLOW_SECONDS", 0.4)
    monkeypatch.setattr("jobrunner.api.patience.BYTES_PER_SECOND", 1 << 30)
    ours, theirs = pair(places=1)
    with ours, theirs:
        with pytest.raises(TooSlowError):
            ours.recv(1)
        ours.begin()
        theirs.sendall(b"x")
        assert ours.recv(1) == b"x"
        with pytest.raises(BrokenPipeError):
            ours.sendall(b"x" * (8 << 20))
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1)


def test_a_place_among_the_slow_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrunner.api.patience.SLOW_SECONDS", 0.3)
    ours, theirs = pair(places=1)
    with ours, theirs:
        for _ in range(3):
            ours.begin()
            with pytest.raises(TooSlowError):
                ours.recv(1)
        assert ours._places.acquire(blocking=False)


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
    came = server.raw(request_ + SECOND)
    assert len(re.findall(rb"^HTTP/1\.1 \d", came, re.MULTILINE)) == 1
    assert 400 <= int(came.split()[1]) < 600
    assert b"smuggled" not in came
    assert server.ask("GET", "/jobs")[1]["items"] == []


def test_too_many_headers_are_refused(server: Server) -> None:
    many = b"".join(b"X-%d: y\r\n" % number for number in range(200))
    assert server.raw(GET + many + b"\r\n").startswith(b"HTTP/1.1 431 ")
    endless = b"X: " + b"y" * 8000 + b"\r\n"
    assert server.raw(GET + endless * 200).startswith(b"HTTP/1.1 431 ")


def test_an_empty_part_of_a_path_is_none_that_is_left_out(server: Server) -> None:
    for path in (b"/jobs//1", b"/jobs/1//result", b"/livez//x"):
        assert server.raw(GET.replace(b"/livez", path) + b"\r\n").startswith(b"HTTP/1.1 404 ")


def test_a_target_with_a_host_of_its_own_leads_nowhere_else(server: Server) -> None:
    for target in (b"http://evil.example/livez", b"http://user@evil.example:99/livez"):
        came = server.raw(GET.replace(b"/livez", target) + b"Connection: close\r\n\r\n")
        assert came.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
        assert b"evil" not in came.partition(b"\r\n\r\n")[0]


# -- paths, numbers, queries -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/jobs/%2e%2e/livez", "/jobs/../livez", "/./jobs", "/jobs//", "/jobs/1%00", "/jobs%00"),
        *("/jobs/%D9%A1", "/jobs/%EF%BC%91", "/jobs/1e3", "/jobs/+1", "/jobs/-1", "/jobs/01", "/jobs/0x1"),
        *(
            "/jobs/1;x",
            "/jobs/1%0a",
            "/jobs/%201",
            "/jobs/1.0",
            "/jobs/0",
            "/jobs%5c1",
            "/JOBS",
            "/jobs/1/RESULT",
        ),
        *(
            "/jobs/" + "9" * 19,
            "/jobs/" + "9" * 3000,
            "/%2e%2e/%2e%2e/etc/passwd",
            "/jobs/1%2fresult",
            "/jobs?",
        ),
    ],
)
def test_a_path_that_plays_tricks_leads_to_what_it_says_or_nowhere(world: World, path: str) -> None:
    assert world.submit() == 1
    answer = world.client.get(path)
    if path == "/jobs?":
        assert answer.status_code == 200
    elif path == "/jobs/1%2fresult":  # the same path, written otherwise
        problem(answer, 409, "not-finished")
    else:
        problem(answer, 404, "path-not-found")


@pytest.mark.parametrize(
    "query",
    [
        *("wait=-1", "wait=1.5", "wait=1e9", "wait=inf", "wait=nan", "wait=", "wait=%D9%A3", "wait=0x10"),
        *("wait=" + "9" * 100, "wait=" + "9" * 4000, "wait=1&wait=1", "wait=1%00", "Wait=1", "wait[]=1"),
    ],
)
def test_a_wait_that_is_no_number_is_refused(world: World, query: str) -> None:
    job_id = world.succeeded(1)
    problem(world.client.get(f"/jobs/{job_id}?{query}"), 400, "invalid-query")


@pytest.mark.parametrize(
    "preference",
    [
        *("wait", "wait=", "wait=-1", "wait=1.5", "wait=nan", "wait=x", "waiting=5", "wait=" + "9" * 4000),
        *("wait=\u0663".encode().decode("latin-1"), "," * 8000, "wait " * 1600, " " * 8000, '"', '"' * 8000),
        *("respond-async", "wait=5x", "await=5", "wait==5", "wait=(5)"),
    ],
)
def test_a_preference_that_is_rubbish_is_no_preference(world: World, preference: str) -> None:
    answer = world.client.get(f"/jobs/{world.submit()}", headers={"Prefer": preference})
    assert answer.status_code == 200
    assert "Preference-Applied" not in answer.headers


def test_a_long_wait_is_cut_and_no_wait_outlives_its_job(world: World) -> None:
    job_id = world.succeeded(1)
    answer = world.client.get(f"/jobs/{job_id}", headers={"Prefer": "wait=999999999"})
    assert answer.headers["Preference-Applied"] == "wait=999999999"


# -- what comes back in headers ----------------------------------------------------------------------

BREAKS = ["\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "\u2028X-Evil: 1", "\x85X-Evil: 1", "\x00"]


@pytest.mark.parametrize("evil", BREAKS)
def test_nothing_that_was_sent_breaks_out_of_a_header(world: World, evil: str) -> None:
    for _ in range(2):
        world.submit(labels={"who": "me"})
    paths = [
        f"/jobs?limit=1&label=who:{quote(evil)}",
        f"/jobs?limit=1&task={quote(evil)}",
        f"/jobs?limit=1&label=who:me&after={quote(evil)}",
        f"/jobs?limit=1&label=who:me&x{quote(evil)}=1",
        f"/tasks/{quote(evil)}",
        f"/problems/{quote(evil)}",
        f"/{quote(evil)}",
    ]
    for path in paths:
        answer = world.client.get(path)
        assert answer.status_code in (200, 400, 404)
        headers = str(answer.headers).rstrip()
        assert "X-Evil" not in headers
        assert "\n\n" not in headers.replace("\r\n", "\n")
    told = world.client.post("/jobs", json={"task": "demo.nothing", "labels": {"a": evil, "b" + evil: ""}})
    assert told.status_code in (202, 422)
    assert "X-Evil" not in str(told.headers)


@pytest.mark.parametrize("key", [b"a\r\nX-Evil: 1", b"a\nb", b"a\rb", b"a\x00b"])
def test_a_line_break_in_an_idempotency_key_makes_no_key_of_it(server: Server, key: bytes) -> None:
    headers = b"Idempotency-Key: " + key + b"\r\nContent-Length: 24\r\nConnection: close\r\n\r\n"
    came = server.raw(POST + headers + JOB)
    assert b"x-evil" not in came.lower()
    assert int(came.split()[1]) in (202, 400)


def test_the_link_to_the_next_page_is_quoted_whatever_the_filters_hold(world: World) -> None:
    value = 'a>; rel="next", <http://evil.example/>; x="é\u2028'
    for _ in range(2):
        world.submit(labels={"who": value})
    link = world.client.get(f"/jobs?limit=1&label={quote('who:' + value)}").headers["Link"]
    assert link.isascii()
    assert (link.count("<"), link.count(">"), link.count('"')) == (1, 1, 2)
    assert len(world.client.get(link[1 : link.index(">")]).get_json()["items"]) == 1


# -- bodies whose flaws are many -------------------------------------------------------------------


MANY: dict[str, Callable[[], bytes]] = {
    "a name twice among many": lambda: b'{%s, "199999": 1}' % names(200_000),
    "unknown names": lambda: b"{%s}" % names(200_000),
    "unknown names in a batch": lambda: b"[%s]" % b",".join([b"{%s}" % names(100)] * 2_000),
    "unknown parameters": lambda: b'{"task": "demo.nothing", "params": {%s}}' % names(200_000),
    "texts that cannot be": lambda: b'{"a": [%s]}' % b",".join([rb'"\u0000"'] * 200_000),
    "wrong values": lambda: (
        b'{"task": "demo.paint", "params": {"sizes": [%s]}}' % b",".join([b'""'] * 500_000)
    ),
    "a long number": lambda: b'{"task": "demo.nothing", "params": {"n": 0.%s}}' % (b"1" * 4_000_000),
}


def names(count: int) -> bytes:
    return b",".join(b'"%d":1' % number for number in range(count))


@pytest.mark.parametrize("flaw", MANY)
@pytest.mark.timeout(60)
def test_many_flaws_cost_no_more_than_a_few(world: World, flaw: str) -> None:
    body = MANY[flaw]()
    answer = world.client.post(
        "/jobs/batch" if body[:1] == b"[" else "/jobs", data=body, content_type="application/json"
    )
    assert answer.status_code in (400, 422)
    assert len(answer.data) < 100_000
    assert world.count() == 0


# -- HEAD ------------------------------------------------------------------------------------------


def test_head_says_what_get_says_and_does_not_stay(small: Server) -> None:
    compared = ("ETag", "Content-Type", "Content-Length", "Retry-After", "Allow")
    for path in (
        "/jobs/1",
        "/jobs/1/result",
        "/jobs?state=failed",  # a list in which no time passes
        "/livez",
        "/jobs/999",
        "/none",
    ):
        connection = small.connect()
        connection.request("GET", path)
        got = connection.getresponse()
        length = len(got.read())
        connection.request("HEAD", path)  # on the same connection, which it leaves in order
        head = connection.getresponse()
        assert (head.status, head.read()) == (got.status, b"")
        assert [head.headers[name] for name in compared] == [got.headers[name] for name in compared]
        assert head.headers["Content-Length"] == str(length)
        connection.close()


@pytest.mark.parametrize(
    ("path", "accept", "mimetype"),
    [
        ("events", "text/event-stream", "text/event-stream"),
        ("partials", "application/x-ndjson", "application/x-ndjson"),
        ("log?follow=1", "*/*", "text/plain"),
    ],
)
def test_head_of_a_stream_ends_at_once_and_takes_nobodys_place(
    small: Server, path: str, accept: str, mimetype: str
) -> None:
    job_id = small.ask("POST", "/jobs", {"task": "demo.nothing"})[1]["id"]  # which nobody runs
    connection = small.connect()
    for _ in range(3):  # on a server where nobody may wait
        connection.request("HEAD", f"/jobs/{job_id}/{path}", headers={"Accept": accept})
        came = connection.getresponse()
        assert (came.status, came.read(), came.headers.get_content_type()) == (200, b"", mimetype)
    connection.request("HEAD", f"/jobs/{job_id + 99}/{path}", headers={"Accept": accept})
    came = connection.getresponse()
    assert (came.status, came.read()) == (404, b"")
    connection.close()
