from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dispatcher.running import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "data")
    yield made
    for daemon in made.started:
        daemon.kill_all()
    made.store.close()
