"""Fixtures of the store's tests: a real SQLite file for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from jobrunner.store.engine import Store
from tests.store.books import Books, url_of
from tests.store.processes import Processes
from tests.stores import prepared

# A busy machine is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an empty store, which nobody has open."""
    store = prepared(tmp_path / "jobs.db")
    store.close()
    return store.path


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(url_of(path))
    yield opened
    opened.close()


@pytest.fixture
def books(store: Store) -> Iterator[Books]:
    """A store with a dispatcher; when the test ends its books must be in order."""
    kept = Books(store)
    yield kept
    kept.audit()


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.close()
