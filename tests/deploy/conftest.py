import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import box as boxes
from tests.deploy.box import Box
from tests.deploy.page import DEPLOY
from tests.deploy.service import Service


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


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Service]:
    lacking = boxes.missing()
    if lacking:
        pytest.skip(lacking)
    wheel: Path = request.getfixturevalue("wheel")  # not built in vain
    box = Box(tmp_path_factory.mktemp("box"))
    try:
        yield Service(box, wheel)
    finally:
        box.close()
