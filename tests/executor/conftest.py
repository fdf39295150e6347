"""One server for all tests of the executor, and an executor for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import Executor
from tests.cli.running import Served, serving
from tests.cli.scripted import server
from tests.executor import tasks
from tests.waiting import eventually

__all__ = ["server"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with two workers and this folder's tasks."""
    folder = tmp_path_factory.mktemp("served")
    flags = (f"--tasks={tasks.__name__}", "--grace-seconds=0.5", "--drain-seconds=0")
    with serving(folder, *flags, path=ROOT) as running:
        yield running.wait_until_ready()


@pytest.fixture
def executor(served: Served) -> Iterator[Executor]:
    with Executor(served.url) as made:
        yield made


def states(executor: Executor) -> list[str]:
    """Return the states of the executor's jobs, sorted."""
    return sorted(job.state for job in executor._client.jobs(labels={"executor": executor.run}))


class Holds:
    """Files that `held` waits for; all of them are made at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self._names: set[str] = set()

    def args(self, name: str) -> tuple[str, str]:
        """Return what to give to `held`."""
        self._names.add(name)
        return self.folder, name

    def runs(self, name: str) -> bool:
        return Path(self.folder, f"{name}.runs").exists()

    def wait_until_running(self, *names: str) -> None:
        eventually(lambda: all(map(self.runs, names)), 30)

    def let_go(self, *names: str) -> None:
        for name in names or self._names:
            Path(self.folder, name).touch()


@pytest.fixture
def holds(tmp_path: Path, executor: Executor) -> Iterator[Holds]:
    made = Holds(tmp_path)
    yield made
    made.let_go()
