"""A stop of `jobrunner api`: everybody is answered, and what streams goes on elsewhere."""

import http.client
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from jobrunner.lifecycle import Ending
from jobrunner.reports import EventKind
from tests.api.serving import Server, free_port
from tests.api.world import World, made_in
from tests.cli.running import command, environ
from tests.waiting import eventually

LESS_THAN_THE_GRACE_SECONDS = 8  # gunicorn gives up after 10
CROWD = 20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = made_in(tmp_path)
    yield made
    made.close()


@contextmanager
def api(world: World, name: str) -> Iterator[Server]:
    """Run `jobrunner api`."""
    port, log = free_port(), world.settings.data / f"{name}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command("api", f"--data={world.settings.data}", f"--port={port}"),
            cwd=world.settings.data,
            env=environ(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        server = Server(process, port, log)
        try:
            eventually(server.answers, 30)
            yield server
        finally:
            process.terminate()
            process.wait(20)


def stream(server: Server, job_id: int, stack: ExitStack, seen: str = "0") -> http.client.HTTPResponse:
    """Return the answer of a stream of events that has begun."""
    connection = server.connect()
    stack.callback(connection.close)
    connection.request("GET", f"/jobs/{job_id}/events", headers={"Last-Event-ID": seen})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.readline() == b"retry: 2000\n"
    return answer


def ids_of(text: bytes) -> list[str]:
    return re.findall(r"^id: (.*)$", text.decode(), re.MULTILINE)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_who_waits_and_ends_streams_which_go_on_elsewhere(world: World, signum: int) -> None:
    job_id = world.running()
    path = f"/jobs/{job_id}?wait=60"
    with api(world, "one") as one, api(world, "other") as other, ExitStack() as stack:
        crowd = stack.enter_context(ThreadPoolExecutor(CROWD))
        streams = [stream(one, job_id, stack) for _ in range(CROWD)]
        waits = [crowd.submit(one.ask, "GET", path) for _ in range(CROWD)]
        eventually(lambda: f"\njobrunner_api_waiting {2 * CROWD}.0\n" in one.text("/metrics"), 30)
        one.process.send_signal(signum)
        assert [wait.result(20)[1]["state"] for wait in waits] == ["running"] * CROWD
        said = [answer.read() for answer in streams]  # to its end: none was cut off
        assert one.process.wait(20) == 0
        assert "Traceback" not in one.said
        assert {tuple(ids_of(text)) for text in said} == {("1", "2")}
        world.say(job_id, (EventKind.PARTIAL, "7"))
        world.end(job_id, Ending.SUCCEEDED)
        rest = stream(other, job_id, stack, seen="2").read()
        assert ids_of(rest) == ["3", "4", "4"]
        assert b"event: end\n" in rest


def test_who_says_nothing_does_not_hold_up_a_stop(world: World) -> None:
    with api(world, "one") as server, ExitStack() as stack:
        for _ in range(CROWD):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert server.answers()
        server.process.terminate()
        assert server.process.wait(LESS_THAN_THE_GRACE_SECONDS) == 0
