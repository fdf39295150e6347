"""Where the API is: `http://host:port/base`, `https://...`, or a Unix socket."""

import http.client
import socket
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from jobrunner.errors import SettingError

_UNIX: Final = ("http+unix:", "unix:")


class Address(NamedTuple):
    """An address that was checked.

    Attributes:
        url: as people write it, without a slash at its end.
        scheme: `http`, `https` or `unix`.
        host: a name or a number; for a Unix socket its path.
        port: None stands for the scheme's own.
        base: what stands before every path; empty, or it begins with a slash.
    """

    url: str
    scheme: str
    host: str
    port: int | None
    base: str

    def connection(self, timeout_seconds: float) -> http.client.HTTPConnection:
        """Return a connection that is not open yet."""
        if self.scheme == "unix":
            return _UnixConnection(self.host, timeout_seconds)
        kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=timeout_seconds)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def parsed(url: str) -> Address:
    """Return the address that `url` names; without a scheme it is `http`.

    A Unix socket is `unix:/run/api.sock` or `http+unix:///run/api.sock`; with a base path
    `http+unix://%2Frun%2Fapi.sock/base`.

    Raises:
        SettingError: it names none.
    """
    try:
        found = _unix(url) if url.startswith(_UNIX) else _tcp(url)
    except ValueError:  # a port that is no number, a bracket that is not closed
        found = None
    if found is None:
        allowed = "the API's address, such as http://127.0.0.1:8000 or unix:/run/jobrunner.sock"
        raise SettingError("url", "--url or JOBRUNNER_URL", url, allowed)
    return found


def _tcp(url: str) -> Address | None:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.port == 0
        or parts.query
        or parts.fragment
    ):
        return None
    base = parts.path.rstrip("/")
    return Address(parts._replace(path=base).geturl(), parts.scheme, parts.hostname, parts.port, base)


def _unix(url: str) -> Address | None:
    place = url.partition(":")[2]
    path, base = place, ""
    if place.startswith("//"):
        quoted, slash, rest = place[2:].partition("/")
        path, base = (unquote(quoted), f"{slash}{rest}".rstrip("/")) if quoted else (f"/{rest}", "")
    if not path.startswith("/") or path.endswith("/") or {"?", "#"} & set(url):
        return None
    return Address(url.rstrip("/"), "unix", path, None, base)
