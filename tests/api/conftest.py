from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.world import World, made_in


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = made_in(tmp_path)
    yield made
    made.close()
