from collections.abc import Iterator

import pytest

from jobrunner import current_job
from jobrunner.tasks import context
from tests.examples.running import Told


@pytest.fixture
def told() -> Iterator[Told]:
    """What the task says of its progress, as the job process would hear it."""
    heard: Told = []
    before = current_job()
    context.enter(context.CurrentJob(id=1, attempt=1, _tell=lambda *said: heard.append(said)))
    yield heard
    context.enter(before)
