"""Fixtures that leave the process as they found it; properties that have time."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from jobrunner import current_job
from jobrunner.tasks import context
from jobrunner.tasks.registry import REGISTRY, Task

# A busy machine is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def registry() -> Iterator[dict[str, Task]]:
    """The tasks of this process: none at first."""
    before = dict(REGISTRY)
    REGISTRY.clear()
    yield REGISTRY
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.fixture
def job() -> Iterator[None]:
    """Whatever job a test enters is left again."""
    before = current_job()
    yield
    context.enter(before)
