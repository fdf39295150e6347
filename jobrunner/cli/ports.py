"""Addresses to listen on: is one free, which one is, and how it is reached."""

import errno
import socket
from typing import Final

from jobrunner.errors import JobrunnerError

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not chosen


class CannotListenError(JobrunnerError):
    """The API cannot listen at this address."""


def free_port(host: str, port: int) -> int:
    """Return `port`, or a free one if it is 0.

    Raises:
        CannotListenError: somebody else listens there, or this machine has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: connections of a server that has ended may still be closing.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CannotListenError(
                f"port {port} of {host} is in use: choose another with --port, or 0 for a free one"
            ) from error
        raise CannotListenError(f"{host} port {port}: {error.strerror or error}") from error


def url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server that listens there."""
    reached = _ANY.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"
