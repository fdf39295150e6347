"""Fixtures of the command line's tests."""

from collections.abc import Iterator

import pytest

from jobrunner.client import Client
from tests.cli.scripted import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as opened:
        yield opened
