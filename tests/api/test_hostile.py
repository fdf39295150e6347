"""Callers who mean harm, with requests that are well-formed: nothing is done that should not be."""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest

from tests.api.serving import Server, served
from tests.api.world import World, made_in, problem

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Where nobody may wait; with a job that has succeeded."""
    directory = tmp_path_factory.mktemp("hostile")
    world = made_in(directory)
    world.succeeded("x" * 100_000)
    world.close()
    with served(directory, api_threads=4, max_waiting=0) as made:
        yield made


# -- ids, numbers, queries -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *(
            "%D9%A1",
            "%EF%BC%91",
            "1e3",
            "+1",
            "-1",
            "01",
            "0x1",
            "1;x",
            "1%0a",
            "%201",
            "1.0",
            "0",
            "1%00",
            "1_0",
        ),
        *("9" * 19, "9" * 3000, "RESULT", "%31%00", "1/RESULT", "1,2", "null", "*"),
    ],
)
def test_what_is_no_id_leads_nowhere(world: World, name: str) -> None:
    assert world.submit() == 1
    problem(world.client.get(f"/jobs/{name}"), 404, "path-not-found")


def test_an_id_may_be_written_otherwise_and_is_the_same(world: World) -> None:
    assert world.submit() == 1
    assert world.client.get("/jobs/%31").get_json()["id"] == 1
    problem(world.client.get("/jobs/1%2fresult"), 409, "not-finished")


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


def test_the_link_to_the_next_page_is_quoted_whatever_the_filters_hold(world: World) -> None:
    value = 'a>; rel="next", <http://evil.example/>; x="é\u2028'
    for _ in range(2):
        world.submit(labels={"who": value})
    link = world.client.get(f"/jobs?limit=1&label={quote('who:' + value)}").headers["Link"]
    assert link.isascii()
    assert (link.count("<"), link.count(">"), link.count('"')) == (1, 1, 2)
    assert len(world.client.get(link[1 : link.index(">")]).get_json()["items"]) == 1


# -- bodies, over the wire ---------------------------------------------------------------------------

BOMB = b'{"task": "demo.nothing", "params": {"n": [' + b" " * (64 << 20) + b"]}}"
BODIES: dict[str, tuple[Callable[[], bytes], dict[str, str], int, str]] = {
    "deep lists": (lambda: b'{"task": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}, 400, "invalid-request"),
    "deep objects": (lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000, {}, 400, "invalid-request"),
    "lists that never end": (lambda: b"[" * 5_000_000, {}, 400, "invalid-request"),
    "a huge number": (
        lambda: b'{"task": "demo.nothing", "params": {"n": %s}}' % (b"9" * 5_000_000),
        {},
        400,
        "invalid-request",
    ),
    "a huge exponent": (
        lambda: b'{"task": "demo.nothing", "params": {"n": 1e999999999}}',
        {},
        400,
        "invalid-request",
    ),
    "too much": (lambda: b" " * ((16 << 20) + 1), {}, 413, "body-too-large"),
    "a gzip bomb": (lambda: gzip.compress(BOMB), {"Content-Encoding": "gzip"}, 415, "unsupported-media-type"),
    "a deflate bomb": (
        lambda: zlib.compress(BOMB),
        {"Content-Encoding": "deflate"},
        415,
        "unsupported-media-type",
    ),
    "a bomb in a bomb": (
        lambda: gzip.compress(gzip.compress(BOMB)),
        {"Content-Encoding": "identity, gzip, gzip"},
        415,
        "unsupported-media-type",
    ),
    "a bomb that does not say so": (lambda: gzip.compress(BOMB), {}, 400, "not-json"),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_would_cost_much_costs_little(server: Server, kind: str) -> None:
    body, headers, status, slug = BODIES[kind]
    connection = server.connect()
    connection.request("POST", "/jobs", body(), {**JSON, **headers})
    answer = connection.getresponse()
    told = json.loads(answer.read())
    assert (answer.status, told["type"]) == (status, f"/problems/{slug}")
    connection.close()
    assert server.ask("GET", "/livez")[0] == 200
    assert len(server.ask("GET", "/jobs")[1]["items"]) == 1


def test_a_bomb_among_the_transfer_codings_is_not_opened(server: Server) -> None:
    packed = gzip.compress(BOMB)
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    came = server.raw(
        head + b"Transfer-Encoding: gzip, chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)
    )
    assert came.startswith(b"HTTP/1.1 400 ")
    assert came.count(b"HTTP/1.1") == 1


# -- cursors -----------------------------------------------------------------------------------------


@pytest.fixture
def cursor(world: World) -> str:
    """Where the first page of the jobs of `ci` ends."""
    for _ in range(3):
        world.submit(labels={"who": "ci"})
    return str(world.client.get("/jobs?limit=1&label=who:ci").get_json()["next"])


TAMPERED: dict[str, Callable[[str], str]] = {
    "cut off": lambda cursor: cursor[:-1],
    "cut off at the front": lambda cursor: cursor[1:],
    "longer": lambda cursor: cursor + "A",
    "padded": lambda cursor: cursor + "==",
    "doubled": lambda cursor: cursor * 2,
    "another id": lambda cursor: "B" + cursor[1:],
    "another digest": lambda cursor: cursor[:-4] + "AAAA",
    "the same bytes, written otherwise": lambda cursor: cursor[:-1] + chr(ord(cursor[-1]) + 1),
    "in other letters": lambda cursor: cursor.swapcase(),
    "with a line break": lambda cursor: cursor + "\n",
    "with a NUL": lambda cursor: cursor + "\0",
    "in wide letters": lambda cursor: "".join(chr(ord(letter) + 0xFEE0) for letter in cursor),
    "nothing": lambda _: "",
    "an id": lambda _: "1",
    "SQL": lambda _: "0 OR 1=1 --",
    "very long": lambda cursor: cursor * 150,
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_cursor_that_was_tampered_with_is_refused(world: World, cursor: str, how: str) -> None:
    tampered = quote(TAMPERED[how](cursor))
    problem(world.client.get(f"/jobs?limit=1&label=who:ci&after={tampered}"), 400, "invalid-cursor")


@pytest.mark.parametrize(
    "other", ["", "label=who:me", "label=who:ci&state=queued", "label=who:ci&task=x", "queue=x"]
)
def test_the_cursor_of_another_list_is_refused(world: World, cursor: str, other: str) -> None:
    problem(world.client.get(f"/jobs?{other}&after={cursor}"), 400, "invalid-cursor")


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


def test_head_says_what_get_says_and_does_not_stay(server: Server) -> None:
    compared = ("ETag", "Content-Type", "Content-Length", "Retry-After", "Allow")
    for path in (
        "/jobs/1",
        "/jobs/1/result",
        "/jobs?state=failed",  # a list in which no time passes
        "/livez",
        "/jobs/999",
        "/none",
    ):
        connection = server.connect()
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
    server: Server, path: str, accept: str, mimetype: str
) -> None:
    job_id = server.ask("POST", "/jobs", {"task": "demo.nothing"})[1]["id"]  # which nobody runs
    connection = server.connect()
    for _ in range(3):  # on a server where nobody may wait
        connection.request("HEAD", f"/jobs/{job_id}/{path}", headers={"Accept": accept})
        came = connection.getresponse()
        assert (came.status, came.read(), came.headers.get_content_type()) == (200, b"", mimetype)
    connection.request("HEAD", f"/jobs/{job_id + 99}/{path}", headers={"Accept": accept})
    came = connection.getresponse()
    assert (came.status, came.read()) == (404, b"")
    connection.close()
