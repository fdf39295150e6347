"""Tokens over real connections, and where the API listens."""

import http.client
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner.api.server import run
from jobrunner.errors import SettingError
from jobrunner.settings import Settings
from jobrunner.store.engine import Store
from tests.api.bearers import make, revoke
from tests.api.serving import Server, served
from tests.api.world import made_in
from tests.stores import prepared
from tests.waiting import eventually


def ask(server: Server, path: str, headers: list[tuple[str, str]]) -> http.client.HTTPResponse:
    """Ask with these headers, of which several may have one name."""
    connection = server.connect()
    connection.putrequest("GET", path)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = prepared(tmp_path / "jobrunner.db")
    yield opened
    opened.close()


def test_with_a_token_it_may_listen_to_all_and_asks_all_for_one_for_ever(
    tmp_path: Path, store: Store
) -> None:
    secret = make(store, "me", "admin")
    with served(tmp_path, host="0.0.0.0", api_threads=2, log_level="debug") as server:  # noqa: S104
        mine = ("Authorization", f"Bearer {secret}")
        assert ask(server, "/jobs", [mine]).status == 200
        for others in (
            [],
            [mine, mine],
            [mine, ("Authorization", "Bearer x")],
            [("Authorization", "x"), mine],
        ):
            assert ask(server, "/jobs", others).status == 401
        for head in (
            f"Authorization Bearer {secret}\r\n\r\n",
            f"Authorization: Bearer {secret}\r\n",
            f"Authorization: Bearer {secret}\r\nTransfer-Encoding: {secret}\r\n\r\n",
            f"Authorization: Bearer {secret}\r\nExpect: {secret}\r\n\r\n",
        ):
            server.raw(f"GET /jobs?token={secret} HTTP/1.1\r\n{head}".encode())
        revoke(store, "me")
        eventually(lambda: ask(server, "/jobs", [mine]).status == 401, 5)
        assert ask(server, "/jobs", []).status == 401
        assert "no tokens" not in server.said
        assert secret not in server.said


def test_revoked_tokens_do_not_let_it_listen_to_all(tmp_path: Path, store: Store) -> None:
    make(store, "me", "admin")
    revoke(store, "me")
    with pytest.raises(SettingError, match="jobrunner token create NAME"):
        run(Settings(data=tmp_path, host="0.0.0.0"))  # noqa: S104


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_a_socket_that_systemd_passes_takes_tokens_too(tmp_path: Path, store: Store, host: str) -> None:
    secret = make(store, "me", "read")
    with (
        socket.create_server((host, 0)) as listener,
        served(tmp_path, listener=listener, api_threads=2) as server,
    ):
        assert ask(server, "/jobs", []).status == 401
        assert ask(server, "/jobs", [("Authorization", f"Bearer {secret}")]).status == 200


def test_each_request_on_a_connection_is_judged_by_its_own_token(tmp_path: Path) -> None:
    world = made_in(tmp_path)
    secrets = {name: make(world.store, name, name) for name in ("read", "submit", "admin")}
    world.close()
    key = "Idempotency-Key: night-17\r\n"

    def request(line: str, name: str = "", more: str = "") -> str:
        header = f"Authorization: Bearer {secrets[name]}\r\n" if name else ""
        return f"{line} HTTP/1.1\r\nHost: localhost\r\n{header}{more}\r\n"

    def submit(name: str, count: int) -> str:
        body = f'{{"task": "demo.nothing", "params": {{"n": {count}}}}}'
        typed = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return request("POST /jobs", name, key + typed) + body

    with served(tmp_path, api_threads=2) as server:
        came = server.raw(
            "".join(
                (
                    request("GET /jobs", "admin"),
                    request("GET /jobs"),
                    request("DELETE /jobs/1", "read"),
                    submit("read", 1),
                    submit("submit", 1),
                    submit("submit", 1),
                    submit("admin", 2),  # neither the job of that key, nor a mismatch with it
                    request("PATCH /queues/default", "submit"),
                    request("GET /jobs"),
                )
            ).encode()
        ).decode()
    assert [int(one) for one in re.findall(r"^HTTP/1.1 (\d+)", came, re.MULTILINE)] == [
        *(200, 401, 403, 403, 202, 202, 202, 403, 401)
    ]
    assert re.findall(r'"id":(\d+)', came) == ["1", "1", "2"]
    assert came.count("Idempotency-Replayed: true") == 1
