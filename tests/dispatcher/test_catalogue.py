"""What the dispatcher learns of the task modules, when the process that imports them is killed."""

from pathlib import Path

import pytest

from jobrunner.dispatcher.catalogue import describe
from jobrunner.dispatcher.tickets import Code, Limits
from jobrunner.settings import Settings

KILLED = """
import os, pathlib, signal
from jobrunner import task
tries = pathlib.Path(__file__).with_suffix(".tries")
tries.write_text(tries.read_text() + "I" if tries.exists() else "I")
if len(tries.read_text()) <= {times}:
    os.kill(os.getpid(), signal.SIGKILL)
@task(name="there")
def there(): ...
"""


@pytest.fixture
def limits() -> Limits:
    return Limits(**{name: getattr(Settings(), name) for name in Limits._fields})


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_process_that_is_killed_once_while_it_imports_costs_no_module_its_place(
    modules: Path, limits: Limits
) -> None:
    (modules / "unlucky.py").write_text(KILLED.format(times=1), encoding="ascii")
    found = describe(Code(1, ("unlucky",)), limits)
    assert ([task["name"] for task in found.tasks], found.errors) == (["there"], {})
    assert found.code.modules == ("unlucky",)


def test_a_module_whose_process_is_killed_each_time_is_left_out(modules: Path, limits: Limits) -> None:
    (modules / "deadly.py").write_text(KILLED.format(times=9), encoding="ascii")
    (modules / "fine.py").write_text(KILLED.format(times=0), encoding="ascii")
    found = describe(Code(1, ("deadly", "fine")), limits)
    assert [task["name"] for task in found.tasks] == ["there"]
    assert found.errors == {"deadly": "importing it ended the process: killed by SIGKILL"}
    assert (modules / "deadly.tries").read_text() == "II"


def test_a_process_that_is_killed_before_it_imports_anything_is_started_once_more(
    modules: Path, limits: Limits
) -> None:
    early = KILLED.format(times=1).replace("from jobrunner import task", "").partition("@task")[0]
    (modules / "sitecustomize.py").write_text(early, encoding="ascii")
    (modules / "fine.py").write_text(KILLED.format(times=0), encoding="ascii")
    found = describe(Code(1, ("fine",)), limits)
    assert ([task["name"] for task in found.tasks], found.errors) == (["there"], {})
    assert (modules / "sitecustomize.tries").read_text() == "II"
