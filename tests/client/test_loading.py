"""What an import loads: a client needs no server, a job process no client."""

import subprocess
import sys

import pytest

_SERVER = "flask sqlalchemy marshmallow gunicorn alembic msgspec jsonschema_rs rich click"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import jobrunner.client", _SERVER),
        ("from jobrunner.client import Client; Client('unix:/x')", _SERVER),
        ("import jobrunner", f"{_SERVER} http http.client jobrunner.client jobrunner.executor"),
        ("from jobrunner import task, current_job", "http http.client jobrunner.client jobrunner.executor"),
        ("from jobrunner import Executor", "flask sqlalchemy marshmallow gunicorn alembic jsonschema_rs"),
    ],
)
def test_an_import_loads_nothing_that_it_does_not_need(code: str, absent: str) -> None:
    program = f"{code}\nimport sys\nprint(*set({absent.split()}) & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


def test_the_package_gives_its_three_names_and_no_other() -> None:
    import jobrunner

    assert {"Executor", "current_job", "task"} <= set(dir(jobrunner))
    assert all(getattr(jobrunner, name).__name__ == name for name in jobrunner.__all__)
    with pytest.raises(AttributeError, match="no attribute 'executioner'"):
        getattr(jobrunner, "executioner")  # noqa: B009 - a type checker would refuse it otherwise
