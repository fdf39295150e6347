import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import box as boxes
from tests.deploy.box import Box
from tests.deploy.page import DEPLOY
from tests.deploy.service import Service, install


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(out),
        str(DEPLOY.parent),
    ]
    built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert built.returncode == 0, built.stdout
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Box]:
    """A machine on which the page was followed up to its start, turned off."""
    lacking = boxes.missing()
    if lacking:
        pytest.skip(lacking)
    box = Box(tmp_path_factory.mktemp("box"))
    try:
        install(box, request.getfixturevalue("wheel"))  # not built in vain
        box.power_off()
        yield box
    finally:
        box.close()


@pytest.fixture(scope="module")
def service(installed: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """What the page installs, started, in a machine of its own."""
    with contextlib.closing(Box(tmp_path_factory.mktemp("box"), base=installed)) as box:
        yield Service(box)


@pytest.fixture(scope="module")
def limited(installed: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The same on a machine where MemoryMax holds."""
    lacking = boxes.missing_for_limits()
    if lacking:
        pytest.skip(lacking)
    with contextlib.closing(Box(tmp_path_factory.mktemp("box"), base=installed, with_limits=True)) as box:
        yield Service(box)
