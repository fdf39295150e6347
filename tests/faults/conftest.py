"""Fixtures: systems on disks that fail."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disks import Disk, FailingDisk, SmallDisk
from tests.faults.system import System, Systems


@pytest.fixture
def systems(tmp_path: Path) -> Iterator[Systems]:
    """Makes systems, and ends whatever runs of them when the test ends."""
    made: list[System] = []

    def make(disk: Disk | None = None) -> System:
        made.append(
            System(tmp_path, tmp_path / "data")
            if disk is None
            else System(tmp_path, disk.data, disk.before, disk.environ)
        )
        return made[-1]

    yield make
    for system in made:
        system.close()


@pytest.fixture
def system(systems: Systems) -> System:
    """API and dispatcher on a disk that works."""
    running = systems()
    running.start()
    return running


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is preloaded to have a disk that fails."""
    if shutil.which("gcc") is None:
        pytest.skip("there is no C compiler to build the failing disk with")
    built = tmp_path_factory.mktemp("disk") / "disk.so"
    source = Path(__file__).with_name("disk.c")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", built, source, "-ldl"],
        check=True,
    )
    return built


@pytest.fixture
def failing_disk(library: Path, tmp_path: Path) -> FailingDisk:
    return FailingDisk(library, tmp_path / "disk", tmp_path / "data")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = SmallDisk(tmp_path / "small")
    yield disk
    disk.close()


@pytest.fixture(params=["small", "failing"])
def disk(request: pytest.FixtureRequest) -> Disk:
    """A disk that can fail, in one way or the other."""
    found: Disk = request.getfixturevalue(f"{request.param}_disk")
    return found
