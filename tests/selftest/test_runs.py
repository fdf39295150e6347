"""Whole selftests: one that finds nothing, one that must find something, and those that are cut short."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import jobrunner
from jobrunner import kernel
from jobrunner.selftest import members
from jobrunner.selftest.audit import Line
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)

ROOT = Path(jobrunner.__file__).parent.parent
FENCE = "(job_now.state, job_now.attempt) != (State.RUNNING, report.attempt)"
BROKEN_FENCE = "job_now.state != State.RUNNING"


def selftest(*flags: str) -> list[str]:
    return [sys.executable, "-m", "jobrunner", "selftest", *flags]


@contextmanager
def started(*flags: str) -> Iterator[subprocess.Popen[str]]:
    """Start a selftest; nothing of it is left when the block ends."""
    process = subprocess.Popen(selftest(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def mark_of(process: subprocess.Popen[str]) -> str:
    """Return the mark of its processes, which its guardian is called with."""

    def guarded() -> str:
        for pid in kernel.children(process.pid):
            words = Path(f"/proc/{pid}/cmdline").read_text(encoding="ascii").rstrip("\0").split("\0")
            if "jobrunner.selftest.guardian" in words:
                return words[-1]
        return ""

    return eventually(guarded, 30)


def verdicts(output: str) -> dict[str, str]:
    """Return what the last lines say, by line."""
    lines = output.splitlines()[-len(Line) - 1 :]
    found = {}
    for line in lines:
        name, value = re.fullmatch(r"(.+?) {2,}(\S.*)", line).groups()  # type: ignore[union-attr]
        found[name] = value
    assert list(found) == ["acknowledged", *Line]
    return found


CLEAN = {line.value: "ok" if line is Line.FILE else "0" for line in Line}


def test_nothing_is_lost_while_everything_is_killed() -> None:
    done = subprocess.run(
        selftest("--kill", "--seconds", "10", "--seed", "4"),
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = verdicts(done.stdout)
    assert int(said.pop("acknowledged")) >= 20
    assert said == CLEAN
    assert max(map(int, re.findall(r"(\d+) killed", done.stdout))) >= 5, done.stdout
    (folder,) = re.findall(r"store in (\S+); seed 4", done.stdout)
    assert not Path(folder).exists(), "only evidence is kept"


def test_a_broken_fence_is_caught(tmp_path: Path) -> None:
    tree, folder = tmp_path / "tree", tmp_path / "evidence"
    folder.mkdir()
    for name in ("jobrunner", "migrations"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    fence = tree / "jobrunner" / "store" / "reports.py"
    whole = fence.read_text(encoding="utf-8")
    assert whole.count(FENCE) == 1
    fence.write_text(whole.replace(FENCE, BROKEN_FENCE), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tests.selftest.one_stands_still", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.stdout, done.stderr
    said = verdicts(done.stdout)
    assert said.pop("acknowledged") == "1"
    assert said == CLEAN | {Line.PARTIALS: "1  jobs 1", Line.WRONG: "1  jobs 1"}
    assert "job 1: its result is" in done.stdout
    assert done.returncode == 1


def test_the_readme_shows_the_last_lines_as_they_are() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```\n(acknowledged .*?)```", readme, re.DOTALL)
    said = verdicts(shown)
    assert int(said.pop("acknowledged")) >= 1
    assert said == CLEAN
    assert len({len(line) for line in shown.splitlines()}) == 1, "aligned"


def test_an_interrupt_ends_it_early_with_an_audit(tmp_path: Path) -> None:
    with started("--seconds", "3600", "--data", str(tmp_path / "kept")) as process:
        journal = tmp_path / "kept" / "journal.jsonl"
        eventually(lambda: journal.exists() and "acknowledged" in journal.read_text(), 120)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=150)
    assert process.returncode == 0, output + errors
    said = verdicts(output)
    assert int(said.pop("acknowledged")) >= 1
    assert said == CLEAN
    assert f"store, journal and logs are in {tmp_path}/kept" in output
    assert "stopping early" in errors


def test_a_second_interrupt_ends_it_at_once_and_all_that_it_started() -> None:
    with started("--kill") as process:
        mark = mark_of(process)
        eventually(lambda: members.find(mark), 60)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("stopping early")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, members.find(mark)) == (130, [])
    (folder,) = re.findall(r"store in (\S+); seed", output)
    assert f"stopped before the audit; what there is lies in {folder}" in errors
    shutil.rmtree(folder)


def test_if_it_is_killed_itself_nothing_is_left_even_of_what_stands_still(tmp_path: Path) -> None:
    with started("--kill", "--data", str(tmp_path / "kept")) as process:
        mark = mark_of(process)
        (first, *_) = eventually(lambda: members.find(mark), 60)
        assert members.send(first, signal.SIGSTOP, mark)
        process.kill()
        eventually(lambda: members.find(mark) == [], 30)


def test_a_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "jobrunner.db").touch()
    done = subprocess.run(selftest("--data", str(tmp_path)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {tmp_path} is not empty")
