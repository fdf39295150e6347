"""Fixtures of the command line's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobrunner.cli.main import main
from tests.cli.scripted import Reply, Server, client, server

__all__ = ["client", "server"]


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Run a command against the server, which gives these replies."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBRUNNER_URL", server.url)

    def run_with(*arguments: str, replies: list[Any] = [], **more: Any) -> Result:  # noqa: B006 - only read
        server.replies = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
        return CliRunner().invoke(main, arguments, catch_exceptions=False, **more)

    return run_with
