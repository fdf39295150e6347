"""Unix sockets: how they are written, and that requests go through them."""

import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from jobrunner.client import Client, UnreachableError
from jobrunner.client.address import parsed
from jobrunner.errors import SettingError


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, *_: object) -> None:
        """Keep silent."""


@pytest.fixture
def socket_path(tmp_path: Path) -> Iterator[Path]:
    """A Unix socket behind which a server answers with the path that it is asked for."""
    path = tmp_path / "api.sock"
    with socketserver.ThreadingUnixStreamServer(str(path), _Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield path
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("form", ["unix:{}", "http+unix://{}"])
def test_requests_go_through_a_unix_socket(socket_path: Path, form: str) -> None:
    with Client(form.format(socket_path)) as client:
        assert client.job(1).log() == "/jobs/1/log"
        assert client.job(2).log(tail=1) == "/jobs/2/log?tail=1"


def test_below_a_unix_socket_there_may_be_a_base_path(socket_path: Path) -> None:
    quoted = str(socket_path).replace("/", "%2F")
    with Client(f"http+unix://{quoted}/base/") as client:
        assert client.job(1).log() == "/base/jobs/1/log"


def test_a_socket_that_is_not_there_is_told_as_an_api_that_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(
        UnreachableError, match=r"nothing answers at unix:/.*: start it with `jobrunner serve`"
    ):
        Client(f"unix:{tmp_path}/none.sock").stats()


@pytest.mark.parametrize("url", ["unix:", "unix:relative", "unix:/", "http+unix://", "unix:/a?b", "unix:/a/"])
def test_what_names_no_socket_is_refused(url: str) -> None:
    with pytest.raises(SettingError):
        parsed(url)


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "base"),
    [
        ("example.org", "http", "example.org", None, ""),
        ("https://example.org/x/", "https", "example.org", None, "/x"),
        ("http://[::1]:80", "http", "::1", 80, ""),
        ("unix:/run/a.sock", "unix", "/run/a.sock", None, ""),
        ("http+unix:///run/a.sock", "unix", "/run/a.sock", None, ""),
        ("http+unix://%2Frun%2Fa.sock", "unix", "/run/a.sock", None, ""),
    ],
)
def test_an_address_is_taken_apart(url: str, scheme: str, host: str, port: int | None, base: str) -> None:
    assert parsed(url)[1:] == (scheme, host, port, base)
