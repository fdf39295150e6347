"""The API under gunicorn, over loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobrunner.api.app import create_app
from jobrunner.api.server import needs_token_at, run
from jobrunner.clock import utc_now
from jobrunner.errors import SettingError
from jobrunner.kernel import children
from jobrunner.settings import Settings
from jobrunner.store import catalogue, dispatchers, jobs
from jobrunner.store.dispatchers import Process
from jobrunner.store.engine import Store
from tests.api.serving import Server, free_port, served
from tests.api.world import OFFERED
from tests.waiting import eventually

JOB = {"task": "demo.nothing", "params": {"n": 1}}


def publish(directory: Path) -> None:
    store = Store(f"sqlite:///{directory / 'jobrunner.db'}")
    process = Process(host="here", place="boot/1", pid=1, started_ticks=1)
    with store.write(durable=False) as connection:
        number = dispatchers.register(connection, process, workers=1, now=utc_now())
        catalogue.publish(connection, number, OFFERED, now=utc_now())
    store.close()


def count(directory: Path) -> int:
    store = Store(f"sqlite:///{directory / 'jobrunner.db'}")
    with store.read() as connection:
        counted = sum(jobs.counts(connection).values())
    store.close()
    return counted


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    with served(directory, api_workers=2, api_threads=4, max_body_bytes="64K") as made:
        publish(directory)
        yield made


def test_a_job_is_submitted_and_shown_over_the_wire(server: Server) -> None:
    status, job = server.ask("POST", "/jobs", JOB)
    assert status == 202
    status, shown = server.ask("GET", f"/jobs/{job['id']}")
    assert (status, shown["params"], shown["state"]) == (200, {"n": 1}, "queued")


def test_many_submit_at_the_same_time_and_every_job_is_kept_once(server: Server, directory: Path) -> None:
    before = count(directory)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: server.ask("POST", "/jobs", JOB), range(80)))
    assert {status for status, _ in answers} == {202}
    assert len({job["id"] for _, job in answers}) == 80
    assert count(directory) == before + 80


def test_a_connection_stays_open_for_further_requests(server: Server) -> None:
    connection = server.connect()
    for _ in range(3):
        connection.request("POST", "/jobs", json.dumps(JOB), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["state"]) == (202, "queued")
    connection.request("HEAD", "/jobs/1")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.close()


def test_a_body_without_a_length_is_read_to_its_end(server: Server) -> None:
    connection = server.connect()
    pieces = [b'{"task": "demo.', b'nothing", "params"', b': {"n": 5}}']
    connection.request(
        "POST", "/jobs", iter(pieces), {"Content-Type": "application/json"}, encode_chunked=True
    )
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["params"]) == (202, {"n": 5})
    connection.close()


POST = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
NO_OP = b'{"task": "demo.nothing"}'
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def ask_raw(server: Server, request: bytes) -> tuple[int, Any]:
    """Return the status and the problem that come back."""
    head, _, body = server.raw(request).partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower(), (head, body)
    assert b"<html" not in body
    return int(head.split()[1]), json.loads(body)


def get(path: bytes, more: bytes = b"") -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + more + b"\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "slug"),
    [
        (POST + b"Content-Length: 0\r\n\r\n", 400, "not-json"),
        (POST + b"\r\n", 400, "not-json"),
        (POST + b"Content-Length: 1000000\r\n\r\n" + b" " * 1000, 413, "body-too-large"),
        (POST + b"Content-Length: 65537\r\n\r\n" + b" " * 65537, 413, "body-too-large"),
        (POST + b"Content-Length: 65536\r\n\r\n" + b" " * 65536, 400, "not-json"),
        (CHUNKED + b"10000\r\n" + b" " * 65536 + b"\r\n1\r\n \r\n0\r\n\r\n", 413, "body-too-large"),
        (CHUNKED + b"10000\r\n" + b" " * 65536 + b"\r\n0\r\n\r\n", 400, "not-json"),
        (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", 400, "invalid-request"),
        (CHUNKED + b"18\r\n" + NO_OP + b"\r\n", 400, "invalid-request"),
        (CHUNKED + b"18\r\n" + NO_OP, 400, "invalid-request"),
        (POST + b"Content-Length: 25\r\n\r\n" + NO_OP, 400, "invalid-request"),
        (get(b"/jobs?task=%ff&x"), 400, "invalid-query"),
        (get(b"/jobs/%ff"), 404, "path-not-found"),
    ],
)
def test_a_request_that_comes_badly_over_the_wire_is_a_problem(
    server: Server, directory: Path, request_: bytes, status: int, slug: str
) -> None:
    before = count(directory)
    told = ask_raw(server, request_)
    assert (told[0], told[1]["type"]) == (status, f"/problems/{slug}")
    assert count(directory) == before
    assert "Traceback" not in server.said


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (get(b"/jobs/\xff"), 400),
        (get(b"/jobs/1", b"no header\r\n"), 400),
        (get(b"/" + b"x" * 5000), 414),
        (get(b"/jobs", b"X-Much: " + b"x" * 10_000 + b"\r\n"), 431),
        (POST + b"Transfer-Encoding: rot13\r\n\r\n", 501),
    ],
)
def test_what_is_no_http_is_a_problem_too(server: Server, request_: bytes, status: int) -> None:
    answered, told = ask_raw(server, request_)
    assert (answered, told["status"], told["type"]) == (status, status, "about:blank")
    assert "Traceback" not in server.said


def test_no_process_of_the_server_holds_the_store_that_another_opened(server: Server) -> None:
    workers = children(server.process.pid)
    assert len(workers) == 2
    held = [str(fd.readlink()) for fd in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    assert not [name for name in held if "jobrunner.db" in name]


def test_sigterm_ends_it_cleanly_and_at_once(tmp_path: Path) -> None:
    with served(tmp_path, api_threads=2) as server:
        connection = server.connect()  # and leave it open
        connection.request("GET", "/livez")
        connection.getresponse().read()
        assert server.stop(signal.SIGTERM) == 0
        connection.close()
        assert "Traceback" not in server.said
        with pytest.raises(OSError, match="refused"):
            server.connect().request("GET", "/livez")


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    with served(tmp_path, api_threads=2) as server:
        [before] = children(server.process.pid)
        os.kill(before, signal.SIGKILL)
        eventually(lambda: set(children(server.process.pid)) - {before})
        eventually(server.answers)


def test_a_socket_that_systemd_passes_is_served_whatever_the_address_says(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        unused = free_port()
        with served(tmp_path, listener=listener, host="0.0.0.0", api_threads=2, port=unused) as server:  # noqa: S104
            server.port = listener.getsockname()[1]
            assert server.ask("GET", "/livez")[0] == 200
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", unused), timeout=5)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "10.0.0.1", ""])  # noqa: S104
def test_an_address_that_others_can_reach_is_refused_while_there_are_no_tokens(
    tmp_path: Path, host: str
) -> None:
    with pytest.raises(SettingError, match="tokens"):
        run(Settings(data=tmp_path, host=host))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_an_address_on_this_machine_alone_is_allowed_without_a_token(tmp_path: Path, host: str) -> None:
    assert not needs_token_at([(host, 80), "/run/x.sock"], Settings(data=tmp_path))


@pytest.mark.parametrize(
    ("soft", "hard", "connections"), [(300, 20_000, 272 + 1000), (300, 1200, 272 + 62), (300, 300, 272 + 16)]
)
def test_it_may_hold_as_many_connections_as_it_has_files_for(soft: int, hard: int, connections: int) -> None:
    program = "from jobrunner.api.server import most_connections as most; print(most(272))"
    shell = f'ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$0" -c "{program}"'
    printed = subprocess.run(
        ["bash", "-c", shell, sys.executable], capture_output=True, text=True, check=True
    )
    assert int(printed.stdout) == connections


def test_making_the_application_opens_no_connection(tmp_path: Path) -> None:
    app = create_app(Settings(data=tmp_path))
    assert app.test_client().get("/livez").status_code == 200
    assert list(tmp_path.iterdir()) == []
