"""Fixtures of the client's tests."""

from collections.abc import Iterator

import pytest

from jobrunner.client import Client
from tests.cli.scripted import Server, serving


@pytest.fixture(autouse=True)
def _no_address_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBRUNNER_URL", raising=False)
    monkeypatch.delenv("JOBRUNNER_TOKEN", raising=False)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as opened:
        yield opened
