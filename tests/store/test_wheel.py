"""The store works from what a user installs, where no checkout stands beside the package."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import jobrunner

ROOT = Path(__file__).parents[2]
UPGRADE = """
import sys
from pathlib import Path
import jobrunner
from jobrunner.store import migrations
from jobrunner.store.engine import Store

store = Store(sys.argv[1])
migrations.upgrade(store)
migrations.check(store)
with store.read() as connection:
    print(connection.exec_driver_sql("SELECT count(*) FROM job").scalar())
print(Path(jobrunner.__file__).parent)
"""

pytestmark = pytest.mark.timeout(300)  # the first build fetches the build backend


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, made of the source distribution as for a release."""
    made = tmp_path_factory.mktemp("dist")
    isolation = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
    build = [sys.executable, "-m", "build", *isolation, "--outdir", str(made), str(ROOT)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    (found,) = made.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed, and nothing else."""
    target = tmp_path_factory.mktemp("installed")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    return target


def files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_the_wheel_holds_the_package_the_migrations_and_its_types_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {str(path.relative_to(ROOT)) for path in files(ROOT / "jobrunner")}
    versions = {f"jobrunner/_{path.relative_to(ROOT)}" for path in files(ROOT / "migrations")}
    assert package | versions | {"jobrunner/py.typed"} <= names
    assert {name.partition("/")[0] for name in names} == {
        "jobrunner",
        f"jobrunner-{jobrunner.__version__}.dist-info",
    }
    assert not [name for name in names if "__pycache__" in name]


def test_an_installed_program_creates_its_store_from_its_own_migrations(
    installed: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", UPGRADE, f"sqlite:///{tmp_path}/data/jobs.db"]
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=60
    )
    assert ran.stdout.split() == ["0", str(installed / "jobrunner")]
    assert (installed / "jobrunner" / "_migrations" / "versions" / "0001_initial.py").exists()
    assert not (installed / "migrations").exists()  # where the program would look next
