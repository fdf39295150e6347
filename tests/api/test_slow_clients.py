"""Clients that are slow, or silent, or many: others are answered meanwhile."""

import contextlib
import json
import os
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config  # type: ignore[import-untyped]

from jobrunner.api.app import create_app
from jobrunner.api.gunicorn_worker import ProblemWorker
from jobrunner.api.lingering import Lingering
from jobrunner.api.patience import PatientSocket, TooSlowError
from jobrunner.api.server import Logger, most_connections
from jobrunner.settings import Settings
from tests.api.serving import Server, served
from tests.api.world import made_in
from tests.waiting import eventually

JOB = b'{"task": "demo.nothing"}'
POST = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
CROWD = 320  # more than all threads of one process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As many threads as by default."""
    directory = tmp_path_factory.mktemp("slow")
    made_in(directory).close()
    with served(directory) as made:
        yield made


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Four threads, of which two may wait for the slow; and a job with a result of 8 MB."""
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
    with connect(server) as connection:
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
        lingering.add(second)  # whose answer broke off, so that it was closed already
        assert not poller.get_map()
    its_client.close()


def test_who_is_closed_to_make_room_is_not_served(server: Server) -> None:
    with crowd(server, GET[:3], most_connections(16 + 256) + 100):  # some go as their first byte comes
        assert is_quick(server)
    assert "Traceback" not in server.said


@contextlib.contextmanager
def working(directory: Path, listener: socket.socket, most: int) -> Iterator[ProblemWorker]:
    """A worker whose loop is turned by hand."""
    config = Config()
    for name, value in {"threads": 1, "worker_connections": most, "keepalive": 15}.items():
        config.set(name, value)
    worker = ProblemWorker(1, os.getppid(), [listener], None, 30, config, Logger(config))
    worker.wsgi = create_app(Settings(data=directory))
    with selectors.DefaultSelector() as worker.poller, worker.get_thread_pool() as worker.tpool:
        worker.method_queue.init()
        worker.poller.register(
            worker.method_queue.fileno(), selectors.EVENT_READ, worker.method_queue.run_callbacks
        )
        worker.set_accept_enabled(True)
        yield worker
        # Nobody is left: neither in the hands of a thread, nor among those that linger.
        eventually(lambda: turned(worker).nr_conns == 0 and len(worker.poller.get_map()) == 2)
    worker.method_queue.close()
    worker.tmp.close()


def turned(worker: ProblemWorker) -> ProblemWorker:
    """Return the worker, after a turn of its loop."""
    worker.wait_for_and_dispatch_events(0.01)
    return worker


def those_left(worker: ProblemWorker) -> int:
    """Return how many connections it has, after it has closed those on which nothing came in time."""
    worker.murder_pending()
    return int(worker.nr_conns)


@pytest.mark.parametrize("has_asked_before", [False, True])
def test_who_speaks_in_the_moment_in_which_somebody_must_go_is_served(
    tmp_path: Path, has_asked_before: bool
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        working(tmp_path, listener, most=2) as worker,
        socket.create_connection(listener.getsockname(), timeout=20) as oldest,
    ):
        eventually(lambda: turned(worker).pending_conns)
        if has_asked_before:
            oldest.sendall(GET + b"\r\n")
            eventually(lambda: turned(worker).keepalived_conns)
            oldest.recv(65536)
        with socket.create_connection(listener.getsockname()):  # the loop finds this first: one too many,
            oldest.sendall(GET + b"Connection: close\r\n\r\n")  # and then this
            assert [key.fileobj is listener for key, _ in worker.poller.select(5)] == [True, False]
            worker.wait_for_and_dispatch_events(5)
            assert oldest.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_who_gets_the_last_place_has_a_moment_to_ask_and_no_longer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, working(tmp_path, listener, most=1) as worker:
        with socket.create_connection(listener.getsockname(), timeout=20) as quick:
            eventually(lambda: turned(worker).pending_conns)
            quick.sendall(GET + b"Connection: close\r\n\r\n")
            eventually(lambda: turned(worker).nr_conns == 0)
            assert quick.recv(65536).startswith(b"HTTP/1.1 200 ")
        with socket.create_connection(listener.getsockname(), timeout=20) as silent:
            (its_end,) = eventually(lambda: turned(worker).pending_conns)
            worker.murder_pending()
            assert worker.nr_conns == 1
            assert its_end.timeout - time.monotonic() <= 1.0
            eventually(lambda: those_left(worker) == 0)
            assert silent.recv(1) == b""


def test_who_is_slow_leaves_room_while_all_others_wait_for_news(tmp_path: Path) -> None:
    world = made_in(tmp_path)
    job_id = world.running()
    waiting = f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with served(tmp_path, api_threads=2, max_waiting=14) as server, crowd(server, waiting, 14) as held:
        for one in held:
            assert one.recv(12) == b"HTTP/1.1 200"
        with crowd(server, GET, 12):
            assert is_quick(server)
    world.close()


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
        with crowd(small, first, 4) as held:  # of which two may take their time
            told = [answer(one) for one in eventually(lambda: those_answered(held, 2))]
        assert {(status, said["type"]) for status, said in told} == {(408, slug)}


def test_who_is_answered_and_then_too_slow_is_not_answered_twice(small: Server) -> None:
    said: dict[socket.socket, bytes] = {}

    def are_cut_off(held: list[socket.socket]) -> bool:
        """Read what there is; return whether those without a place among the slow were sent away."""
        ended = 0
        for one in select.select(held, [], [], 0)[0]:
            came = one.recv(65536)
            said[one] = said.get(one, b"") + came
            ended += not came
        return ended >= 2

    with crowd(small, GET + b"Content-Length: 1000\r\n\r\n", 4) as held:
        eventually(lambda: are_cut_off(held))
    assert [came.count(b"HTTP/1.1 ") for came in said.values()] == [1, 1, 1, 1]


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
