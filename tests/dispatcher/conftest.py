from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.dispatcher.running import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(World(tmp_path / "data")) as made:
        yield made
