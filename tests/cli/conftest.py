"""Fixtures of the command line's tests."""

from collections.abc import Iterator

import pytest

from tests.cli.scripted import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running
