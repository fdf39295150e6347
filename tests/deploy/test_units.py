"""What systemd itself says of the units, without starting them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jobrunner.dispatcher.handle import IMPORT_SECONDS
from jobrunner.dispatcher.pool import CLOSE_SECONDS, START_SECONDS, WRITER_SECONDS
from jobrunner.settings import load
from tests.deploy.page import DEPLOY, UNITS

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """Copies of the units, which start a program that is there."""
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace(
            "/opt/jobrunner/bin/jobrunner", shutil.which("true") or ""
        )
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    return [str(tmp_path / unit.name) for unit in UNITS]


def _analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def _value(unit: str, name: str) -> str:
    found = re.findall(rf"^{name}=(.*)$", (DEPLOY / unit).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


def test_systemd_finds_no_fault_with_the_units(units: list[str]) -> None:
    verified = _analyze("--man=no", "--recursive-errors=yes", "verify", *units)
    assert (verified.returncode, verified.stderr) == (0, "")  # an unknown key is but a line on stderr


@pytest.mark.parametrize(
    ("unit", "tenths"), [("jobrunner-api.service", 10), ("jobrunner-dispatcher.service", 15)]
)
def test_the_services_are_exposed_to_little(units: list[str], unit: str, tenths: int) -> None:
    [path] = [one for one in units if one.endswith(unit)]
    rated = _analyze("security", "--offline=true", "--no-pager", f"--threshold={tenths}", path)
    assert rated.returncode == 0, rated.stdout


def test_systemd_waits_longer_than_a_drain_takes() -> None:
    sample = load({}, {}, DEPLOY / "jobrunner.toml")
    longest = sample.drain_seconds + sample.grace_seconds + CLOSE_SECONDS + WRITER_SECONDS
    assert float(_value("jobrunner-dispatcher.service", "TimeoutStopSec")) > longest


def test_systemd_waits_longer_than_a_start_takes() -> None:
    assert float(_value("jobrunner-dispatcher.service", "TimeoutStartSec")) > IMPORT_SECONDS + START_SECONDS


def test_the_api_may_have_the_threads_and_files_that_it_takes() -> None:
    sample = load({}, {}, DEPLOY / "jobrunner.toml")
    threads = sample.api_threads + sample.max_waiting
    assert int(_value("jobrunner-api.service", "TasksMax")) > sample.api_workers * (threads + 10)
    assert int(_value("jobrunner-api.service", "LimitNOFILE")) > 4 * threads + 1000 + 100


def test_the_target_holds_every_other_unit() -> None:
    others = {unit.name for unit in UNITS} - {"jobrunner.target"}
    assert set(_value("jobrunner.target", "Wants").split()) == others
    assert {_value(name, "PartOf") for name in others} == {"jobrunner.target"}
