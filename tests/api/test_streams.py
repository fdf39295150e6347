"""Streams over the wire: events with exact resume, partial results as NDJSON, a log that is followed."""

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobrunner.lifecycle import Ending
from jobrunner.reports import EventKind
from tests.api.bearers import bearer, make, revoke
from tests.api.serving import Server, served
from tests.api.world import World, made_in
from tests.waiting import eventually

NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = made_in(tmp_path_factory.mktemp("streams"))
    yield made
    made.close()


Open = Callable[..., "Stream"]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Open streams, and close them when the test is over."""
    with contextlib.ExitStack() as stack:

        def opened(server: Server, path: str, headers: dict[str, str] | None = None) -> Stream:
            stream = Stream(server, path, headers)
            stack.callback(stream.close)
            return stream

        yield opened


@pytest.fixture(scope="module")
def server(world: World) -> Iterator[Server]:
    with served(world.settings.data, api_threads=4) as made:
        yield made


class Stream:
    """An answer that is read as it comes."""

    def __init__(self, server: Server, path: str, headers: dict[str, str] | None = None) -> None:
        self._connection = server.connect()
        self._connection.request("GET", path, headers=headers or {})
        self.answer: http.client.HTTPResponse = self._connection.getresponse()

    def line(self) -> str:
        return self.answer.readline().decode()

    def event(self) -> tuple[str, str, dict[str, Any]]:
        """Return id, name and data of the next event; what comes between events is no event."""
        lines: dict[str, str] = {}
        while "data" not in lines:
            lines = dict(line.split(": ", 1) for line in self._paragraph() if ": " in line)
        return lines["id"], lines["event"], json.loads(lines["data"])

    def _paragraph(self) -> list[str]:
        lines = []
        while line := self.line().rstrip("\n"):
            lines.append(line)
        return lines

    def rest(self) -> str:
        return self.answer.read().decode()

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def names_of(text: str) -> list[str]:
    return re.findall(r"^event: (.*)$", text, re.MULTILINE)


def ids_of(text: str) -> list[int]:
    return [int(seq) for seq in re.findall(r"^id: (.*)$", text, re.MULTILINE)]


def partial(value: Any) -> tuple[EventKind, str]:
    return EventKind.PARTIAL, json.dumps(value)


def lively(world: World) -> int:
    """Return a job with one event of each kind, which still runs."""
    job_id = world.running()
    world.say(
        job_id,
        (EventKind.LOG, "line 1\nline 2"),
        partial({"text": "a\nb\r\nc\u2028d"}),
        (EventKind.PROGRESS, '{"done":1,"total":2,"message":null}'),
    )
    return job_id


# -- events -----------------------------------------------------------------------------------------


def test_a_stream_tells_all_that_happened_and_all_that_happens_and_ends(
    world: World, server: Server, opened: Open
) -> None:
    job_id = lively(world)
    stream = opened(server, f"/jobs/{job_id}/events")
    assert stream.answer.headers["Content-Type"].startswith("text/event-stream")
    assert stream.line() == "retry: 2000\n"
    told = [stream.event() for _ in range(5)]
    assert [(seq, name) for seq, name, _ in told] == [
        ("1", "state"),
        ("2", "state"),
        ("3", "log"),
        ("4", "partial"),
        ("5", "progress"),
    ]
    assert [data["seq"] for _, _, data in told] == [1, 2, 3, 4, 5]
    assert told[1][2]["state"] == "running"
    assert told[2][2]["text"] == "line 1\nline 2"
    assert told[3][2]["value"] == {"text": "a\nb\r\nc\u2028d"}
    assert told[4][2]["progress"] == {"done": 1, "total": 2, "message": None}
    world.end(job_id, Ending.SUCCEEDED, result=7)
    seq, name, data = stream.event()
    assert (seq, name, data["state"]) == ("6", "state", "succeeded")
    assert stream.event() == ("6", "end", {"id": job_id, "state": "succeeded", "version": 6})
    assert stream.rest() == ""


@pytest.mark.parametrize("seen", range(7))
def test_a_stream_goes_on_after_the_last_event_that_was_seen(
    world: World, server: Server, seen: int, opened: Open
) -> None:
    job_id = lively(world)
    world.end(job_id, Ending.SUCCEEDED)
    for path, headers in (
        (f"/jobs/{job_id}/events", {"Last-Event-ID": str(seen)}),
        (f"/jobs/{job_id}/events?after={seen}", {}),
        (f"/jobs/{job_id}/events?after=0", {"Last-Event-ID": str(seen)}),
    ):
        stream = opened(server, path, headers)
        if seen == 6:
            assert (stream.answer.status, stream.rest()) == (204, "")
        else:
            assert ids_of(stream.rest()) == [*range(seen + 1, 7), 6]


def test_a_client_that_reconnects_again_and_again_misses_nothing(
    world: World, server: Server, opened: Open
) -> None:
    job_id = world.running()
    seen: list[int] = []
    for number in range(20):
        world.say(job_id, *[partial(number)] * 7)
        stream = opened(server, f"/jobs/{job_id}/events", {"Last-Event-ID": str(seen[-1] if seen else 0)})
        seen += [int(stream.event()[0]) for _ in range(3)]
        stream.close()
    world.end(job_id, Ending.SUCCEEDED)
    rest = opened(server, f"/jobs/{job_id}/events", {"Last-Event-ID": str(seen[-1])}).rest()
    assert [*seen, *ids_of(rest)] == [*range(1, 144), 143]


def test_a_stream_outlives_a_restart_of_the_api(world: World, opened: Open) -> None:
    job_id = lively(world)
    with served(world.settings.data) as server:
        stream = opened(server, f"/jobs/{job_id}/events")
        last = [stream.event() for _ in range(5)][-1][0]
        assert server.stop() == 0
        stream.rest()
    world.end(job_id, Ending.SUCCEEDED)
    with served(world.settings.data) as server:
        rest = opened(server, f"/jobs/{job_id}/events", {"Last-Event-ID": last}).rest()
    assert names_of(rest) == ["state", "end"]


def test_a_job_that_is_asked_to_run_again_goes_on_where_its_stream_ended(
    world: World, server: Server, opened: Open
) -> None:
    job_id = world.failed()
    assert ids_of(opened(server, f"/jobs/{job_id}/events").rest()) == [1, 2, 3, 3]
    world.client.post(f"/jobs/{job_id}/retry")
    stream = opened(server, f"/jobs/{job_id}/events", {"Last-Event-ID": "3"})
    assert stream.event()[:2] == ("4", "state")
    world.claim()
    world.end(job_id, Ending.SUCCEEDED, attempt=2)
    assert names_of(stream.rest()) == ["state", "state", "end"]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30, "²"])
def test_an_id_that_no_event_can_have_is_refused(
    world: World, server: Server, last: str, opened: Open
) -> None:
    job_id = world.running()
    stream = opened(server, f"/jobs/{job_id}/events", {"Last-Event-ID": last.encode().decode("latin-1")})
    assert stream.answer.status == 400
    assert json.loads(stream.rest())["type"] == "/problems/invalid-query"


def test_a_stream_of_no_job_is_404(server: Server, opened: Open) -> None:
    for path in ("/jobs/999/events", "/jobs/999/log?follow=true"):
        assert server.ask("GET", path)[0] == 404
    assert opened(server, "/jobs/999/partials", NDJSON).answer.status == 404


# -- partial results and logs -------------------------------------------------------------------------


def test_partial_results_are_followed_line_by_line(world: World, server: Server, opened: Open) -> None:
    job_id = world.running()
    world.say(job_id, partial(1), (EventKind.LOG, "x"), partial([2]))
    stream = opened(server, f"/jobs/{job_id}/partials?after=3", NDJSON)
    assert stream.answer.headers["Content-Type"] == "application/x-ndjson"
    assert json.loads(stream.line())["value"] == [2]
    world.say(job_id, *(partial(number) for number in range(200)))
    lines = [json.loads(stream.line()) for _ in range(200)]
    assert [line["value"] for line in lines] == list(range(200))
    world.end(job_id, Ending.SUCCEEDED)
    assert stream.rest().strip() == ""


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "application/json, application/x-ndjson;q=0.5"]
)
def test_who_does_not_ask_for_lines_gets_a_page(
    world: World, server: Server, accept: str, opened: Open
) -> None:
    stream = opened(server, f"/jobs/{lively(world)}/partials", {"Accept": accept})
    assert stream.answer.headers["Content-Type"] == "application/json"
    assert not json.loads(stream.rest())["complete"]


def test_a_log_is_followed_across_attempts(world: World, server: Server, opened: Open) -> None:
    job_id = lively(world)
    stream = opened(server, f"/jobs/{job_id}/log?follow=true&tail=1")
    assert stream.answer.read(6) == b"line 2"
    world.say(job_id, (EventKind.LOG, "\nline 3\n"))
    assert stream.answer.read(8) == b"\nline 3\n"
    world.end(job_id, Ending.EXCEPTION)
    assert stream.rest() == ""


# -- many, and the end --------------------------------------------------------------------------------


def test_streams_and_waits_leave_room_for_everybody_else(world: World, opened: Open) -> None:
    job_id = world.running()
    with (
        served(world.settings.data, api_threads=2, max_waiting=250) as server,
        ThreadPoolExecutor(200) as crowd,
    ):
        streams = [opened(server, f"/jobs/{job_id}/events") for _ in range(50)]
        assert all(stream.event()[0] == "1" for stream in streams)
        waits = [crowd.submit(server.ask, "GET", f"/jobs/{job_id}?wait=60") for _ in range(200)]
        eventually(lambda: "\njobrunner_api_waiting 250.0\n" in server.text("/metrics"), 60)
        assert opened(server, f"/jobs/{job_id}/events").answer.status == 503
        assert server.ask("GET", "/livez") == (200, {"alive": True})
        world.end(job_id, Ending.SUCCEEDED)
        assert {wait.result(30)[1]["state"] for wait in waits} == {"succeeded"}
        assert {tuple(names_of(stream.rest()))[-1] for stream in streams} == {"end"}


def test_a_place_is_free_again_once_the_client_is_gone(world: World, opened: Open) -> None:
    job_id = world.running()
    with served(world.settings.data, max_waiting=1) as server:
        stream = opened(server, f"/jobs/{job_id}/events")
        assert stream.event()[0] == "1"
        refused = opened(server, f"/jobs/{job_id}/events").answer
        assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
        status, shown = server.ask("GET", f"/jobs/{job_id}?wait=60")
        assert (status, shown["state"]) == (200, "running"), "at once: it is answered with what there is"
        stream.close()
        world.say(job_id, partial(1))  # news, at which the stream finds nobody there
        eventually(lambda: opened(server, f"/jobs/{job_id}/events").answer.status == 200)


def test_a_head_request_to_a_stream_does_not_wait(world: World, server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(f"HEAD /jobs/{world.running()}/events HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.0 200 OK\r\n"), answer
    assert answer.endswith(b"\r\n\r\n")


# -- whose token is revoked -------------------------------------------------------------------------------


def test_who_is_not_allowed_any_more_is_told_no_more(tmp_path: Path, opened: Open) -> None:
    world = made_in(tmp_path)
    job_id = lively(world)
    boss = bearer(make(world.store, "boss", "admin"))
    held = bearer(make(world.store, "guest", "read"))
    with served(tmp_path) as server, ThreadPoolExecutor(2) as others:
        stream = opened(server, f"/jobs/{job_id}/events", held)
        assert stream.event()[0] == "1"
        rest = others.submit(stream.rest)
        wait = others.submit(lambda: opened(server, f"/jobs/{job_id}?wait=60", held).answer.status)
        both = "\njobrunner_api_waiting 2.0\n"
        eventually(lambda: both in opened(server, "/metrics", boss).rest(), 30)
        revoke(world.store, "guest")

        def is_over() -> bool:
            world.say(job_id, (EventKind.LOG, "and on"))
            return rest.done()

        eventually(is_over, 30)
        assert "end" not in names_of(rest.result())
        world.end(job_id, Ending.SUCCEEDED)
        assert wait.result(30) == 401
    world.close()
