"""Fixtures of the client's tests."""

import pytest

from tests.cli.scripted import client, server

__all__ = ["client", "server"]


@pytest.fixture(autouse=True)
def _no_address_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBRUNNER_URL", raising=False)
    monkeypatch.delenv("JOBRUNNER_TOKEN", raising=False)
