"""Fixtures of the store's tests: a real SQLite file for each."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from jobrunner.store import migrations
from jobrunner.store.engine import Store
from tests.store.books import Books, url_of
from tests.store.processes import Processes

# A busy machine is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, made by the migrations, that nobody has open."""
    path = tmp_path_factory.mktemp("template") / "jobs.db"
    store = Store(url_of(path))
    migrations.prepare(store)
    store.close()
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    """The file of an empty store."""
    return Path(shutil.copy(template, tmp_path / "jobs.db"))


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
