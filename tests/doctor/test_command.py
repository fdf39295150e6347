"""`jobrunner doctor` as people call it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jobrunner.cli.main import main
from jobrunner.doctor.examination import CHECKS, outcome
from jobrunner.doctor.findings import Grade, Told
from jobrunner.doctor.situation import Situation
from tests.cli.running import command, environ
from tests.dispatcher.running import MODULES, World
from tests.doctor.looking import look


def doctor(folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    """Run the command there, in a pipe."""
    return subprocess.run(
        command("doctor", *flags),
        cwd=folder,
        env=environ(PYTHONPATH=str(MODULES)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def told(done: "subprocess.CompletedProcess[str]") -> dict[str, set[Grade]]:
    """What `--json` says: the grades by the name of the check."""
    found: dict[str, set[Grade]] = {}
    for one in json.loads(done.stdout):
        assert list(one) == ["grade", "name", "text"]
        found.setdefault(one["name"], set()).add(Grade(one["grade"]))
    return found


def test_in_an_empty_directory_nothing_is_serious_and_nothing_is_made(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--tasks", "faults")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines
    for line in lines:
        grade, name = line[:8].rstrip(), line[9:21].rstrip()
        assert grade in {"ok", "warning"}, line
        assert name in CHECKS
        assert line[21] == " "
        assert line[22:] == line[22:].strip() != ""
    assert list(tmp_path.iterdir()) == []


def test_where_all_is_well_each_check_says_so(world: World) -> None:
    world.start()
    world.run("nothing")
    done = doctor(world.data.parent, "--data", str(world.data), "--tasks", "faults", "--workers=2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = told(done)
    assert found.keys() == CHECKS.keys()
    for name in ("sqlite", "schema", "wal", "integrity", "address", "dispatchers", "queue", "modules"):
        assert found[name] == {Grade.OK}, done.stdout


def test_what_is_serious_is_status_1_and_the_store_stays_as_it_was(world: World) -> None:
    world.submit("nothing")
    world.store.close()

    def files() -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in world.data.iterdir()}

    before = files()
    done = doctor(
        world.data.parent, "--data", str(world.data), "--tasks", "nowhere", "--host", "192.0.2.1", "--json"
    )
    assert (done.returncode, done.stderr) == (1, "")
    found = told(done)
    assert [name for name, grades in found.items() if Grade.SERIOUS in grades] == [
        "address",
        "queue",
        "modules",
    ]
    assert files() == before


def test_a_wrong_setting_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["doctor", "--workers", "0"], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (2, "")
    assert (
        done.stderr == "Error: workers = '0' (from flag --workers): must be a whole number from 1 to 1024\n"
    )


def test_a_store_that_is_no_sqlite_file_is_one_line_and_status_1() -> None:
    url = "postgresql://here/jobs"
    done = CliRunner().invoke(main, ["doctor", "--database-url", url], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


def test_a_terminal_sees_colours_and_a_pipe_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(MODULES))
    arguments = ["doctor", "--tasks", "faults"]
    seen = CliRunner().invoke(main, arguments, color=True, catch_exceptions=False).stdout
    assert seen.startswith(("\x1b[32mok      \x1b[0m filesystem   ", "\x1b[33mwarning \x1b[0m filesystem   "))


def test_a_check_that_fails_itself_is_a_warning_and_keeps_what_it_had_said(tmp_path: Path) -> None:
    def stumbles(situation: Situation) -> Told:
        yield Grade.OK, "it has a roof"
        yield Grade.SERIOUS, "it is on fire"
        (situation.directory / "not there").read_bytes()

    *said, (grade, text) = outcome(stumbles, look(tmp_path))
    assert said == [(Grade.OK, "it has a roof"), (Grade.SERIOUS, "it is on fire")]
    assert grade is Grade.WARNING
    assert text.startswith("this check failed itself: FileNotFoundError: ")


# -- on other file systems ---------------------------------------------------------------------------

_MOUNTED = """
mount -t tmpfs -o size=32m,mode=700 tmpfs "$1"
"$2" -m jobrunner db upgrade --data "$1" >"$3/upgraded"
"$2" -m jobrunner doctor --data "$1" --tasks faults --json >"$3/writable" || echo $? >"$3/writable.status"
mount -o remount,ro "$1"
"$2" -m jobrunner doctor --data "$1" --tasks faults --json >"$3/sealed" || echo $? >"$3/sealed.status"
"""


def _no_mounts() -> str:
    if os.geteuid() != 0:
        return "only root can mount"
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no mount namespace can be made here: {tried.stderr.strip()}" if tried.returncode else ""


def test_a_store_in_memory_with_little_room_and_then_read_only(tmp_path: Path) -> None:
    if lacking := _no_mounts():
        pytest.skip(lacking)
    place, out = tmp_path / "mnt", tmp_path / "out"
    place.mkdir()
    out.mkdir()
    script = ["bash", "-euc", _MOUNTED, "bash", str(place), sys.executable, str(out)]
    subprocess.run(
        ["unshare", "--mount", *script], env=environ(PYTHONPATH=str(MODULES)), check=True, timeout=90
    )

    def said(name: str) -> dict[str, dict[str, Any]]:
        assert (out / f"{name}.status").read_text() == "1\n"
        found = json.loads((out / name).read_text())
        return {one["name"]: one for one in found}

    writable = said("writable")
    assert (writable["filesystem"]["grade"], writable["space"]["grade"]) == ("warning", "serious")
    assert writable["filesystem"]["text"].startswith(
        f"{place} is on tmpfs, in memory: no job survives a reboot"
    )
    assert writable["schema"]["grade"] == "ok"
    sealed = said("sealed")
    assert sealed["filesystem"]["text"].startswith(f"{place} is on {place}, which is mounted read-only")
    assert {name: sealed[name]["grade"] for name in ("filesystem", "access", "schema")} == {
        "filesystem": "serious",
        "access": "ok",
        "schema": "serious",
    }
