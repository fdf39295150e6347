"""Commands that follow and wait, against a real server whose parts are killed."""

import json
import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Served, descendants, serving
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    flags = ("--tasks=probes", "--tasks=trials", "--grace-seconds=0.5", "--workers=4")
    with serving(tmp_path_factory.mktemp("served"), *flags) as running:
        yield running.wait_until_ready()


def _submitted(served: Served, *arguments: str) -> int:
    return int(json.loads(served.run("submit", *arguments, "--json").stdout)["id"])


def _steps(served: Served, folder: Path, count: int = 1) -> int:
    folder.mkdir(exist_ok=True)
    return _submitted(served, "probes.steps", f"folder={folder}", f"count={count}")


def _let_go(folder: Path, *steps: int) -> None:
    for step in steps:
        (folder / str(step)).touch()


def _kill_api(served: Served) -> None:
    api = served.parts()["api"]
    for pid in (api, *descendants(api)):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: served.parts().get("api", api) != api, 30)


# -- partials and log ----------------------------------------------------------------------------


def test_what_a_job_yields_and_prints_is_followed_through_deaths_of_the_api(
    served: Served, tmp_path: Path
) -> None:
    job = str(_steps(served, tmp_path, 4))
    partials = served.start("partials", job, "--follow")
    whole = served.start("partials", job, "--follow", "--json")
    log = served.start("log", job, "--follow")
    for step in (1, 2, 3, 4):
        _let_go(tmp_path, step)
        partials.wait_until_it_says(f'{{"step": {step}}}\n')
        whole.wait_until_it_says(f'"value": {{"step": {step}}}')
        log.wait_until_it_says(f"step {step}\n")
        if step % 2:
            _kill_api(served)
        if step == 2:
            tail = served.start("log", job, "--follow", "--tail=1")
            tail.wait_until_it_says("step 2\n")
    assert [one.status() for one in (partials, whole, log, tail)] == [0, 0, 0, 0], served.logged()
    assert tail.said() == "step 2\nstep 3\nstep 4\n"
    values = [{"step": step} for step in (1, 2, 3, 4)]
    assert [json.loads(line) for line in partials.said().splitlines()] == values
    found = [json.loads(line) for line in whole.said().splitlines()]
    assert [one["value"] for one in found] == values
    assert log.said() == "step 1\nstep 2\nstep 3\nstep 4\n"
    without_following = [
        json.loads(line) for line in served.run("partials", job, "--json").stdout.splitlines()
    ]
    assert found == without_following
    later = served.run("partials", job, "--follow", "--after", str(found[1]["seq"]))
    assert [json.loads(line) for line in later.stdout.splitlines()] == values[2:]
    assert served.run("log", job, "--follow", "--tail=2").stdout == "step 3\nstep 4\n"


def test_attempts_are_told_apart_wherever_a_job_is_followed(served: Served, tmp_path: Path) -> None:
    shown = served.start("submit", "trials.third_time", f"folder={tmp_path}", "--follow")
    shown.wait_until_it_says('partial: "by 1"')
    job = shown.said().split()[1]
    log = served.start("log", job, "--follow")
    log.wait_until_it_says("try 1\n")
    _let_go(tmp_path, 1, 2)
    shown.wait_until_it_says('partial: "by 3"')
    late = served.start("log", job, "--follow")
    late.wait_until_it_says("try 3\n")
    _let_go(tmp_path, 3)
    assert [one.status() for one in (shown, log, late)] == [0, 0, 0]
    assert log.said() == "try 1\nattempt 2\ntry 2\nattempt 3\ntry 3\n"
    assert late.said() == "try 3\n"
    lines = shown.said().splitlines()
    told = [line.split(" after ")[0] for line in lines if "queued" not in line and "running" not in line]
    assert [line for line in told if line not in {"attempt 2", "attempt 3"}][-7:] == [
        'partial: "by 1"',
        "attempt 1 ended: ValueError: not the 1. time",
        'partial: "by 2"',
        "attempt 2 ended: ValueError: not the 2. time",
        'partial: "by 3"',
        f"job {job} succeeded",
        'result: "well"',
    ]
    for number in (2, 3):
        marks = {f"attempt {number}", f"job {job} running, attempt {number}"}
        begins = min(place for place, line in enumerate(lines) if line in marks)
        assert begins < lines.index(f'partial: "by {number}"')
    listed = served.run("attempts", job).stdout.splitlines()
    assert [line.split("  ")[0] for line in listed] == ["ATTEMPT", "1", "2", "3"]
    assert listed[1].endswith("ValueError: not the 1. time")
    assert listed[3].endswith("succeeded")
    assert served.run("partials", job, "--attempt=2").stdout == '"by 2"\n'
    assert served.run("log", job, "--follow", "--attempt=2").stdout == "try 2\n"


@pytest.mark.parametrize("command", [["partials"], ["log"], ["wait"]])
def test_ctrl_c_ends_what_follows_with_130_and_leaves_the_job(
    served: Served, tmp_path: Path, command: list[str]
) -> None:
    _let_go(tmp_path, 1)
    job = _steps(served, tmp_path, 2)
    flags = ["--follow"] if command != ["wait"] else []
    followed = served.start(*command, str(job), *flags)
    said = {"partials": '{"step": 1}\n', "log": "step 1\n", "wait": ""}[command[0]]
    followed.wait_until_it_says(said)
    _asks(followed.process.pid)
    followed.process.send_signal(signal.SIGINT)
    assert followed.status() == 130
    assert f"job {job} goes on." in followed.said()
    _let_go(tmp_path, 2)
    assert served.run("wait", str(job)).returncode == 0


def _asks(pid: int) -> None:
    """Wait until a process has a connection, which it has once it runs its command."""

    def has_connection() -> bool:
        try:
            return any("socket:" in str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir())
        except FileNotFoundError:  # closed while we looked
            return False

    eventually(has_connection, 30)


# -- wait ----------------------------------------------------------------------------------------


def test_wait_prints_each_job_as_it_ends_and_tells_the_fate_of_all(served: Served, tmp_path: Path) -> None:
    slow, quick, other = (_steps(served, tmp_path / name) for name in "abc")
    waiting = served.start("wait", *map(str, (slow, quick, other, slow)))
    for name, job in {"b": quick, "c": other}.items():
        _let_go(tmp_path / name, 1)
        waiting.wait_until_it_says(f"job {job} succeeded after ")
    _kill_api(served)
    _let_go(tmp_path / "a", 1)
    assert waiting.status() == 0
    assert [line.split(" after ")[0] for line in waiting.said().splitlines()] == [
        f"job {job} succeeded" for job in (quick, other, slow)
    ]
    failed = _submitted(served, "probes.wrong")
    cancelled = _submitted(served, "probes.wrong", "--delay=3600")
    served.run("cancel", str(cancelled))
    done = served.run("wait", str(quick), str(cancelled))
    assert (done.returncode, done.stdout.splitlines()[1]) == (3, f"job {cancelled} cancelled")
    done = served.run("wait", str(cancelled), str(failed), "--json")
    jobs: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert {job["id"]: job["state"] for job in jobs} == {cancelled: "cancelled", failed: "failed"}
    told = served.run("wait", str(failed)).stdout
    assert told.endswith(": ZeroDivisionError: division by zero\n")


def test_wait_ends_with_124_when_time_is_up_and_names_what_is_late(served: Served, tmp_path: Path) -> None:
    late, quick = _steps(served, tmp_path / "a"), _steps(served, tmp_path / "b")
    _let_go(tmp_path / "b", 1)
    done = served.run("wait", str(late), str(quick), "--timeout=1")
    assert done.returncode == 124
    assert done.stdout.startswith(f"job {quick} succeeded after ")
    assert done.stderr == f"time is up, still waiting for: {late}\n"
    assert served.run("wait", str(late), "--timeout=0").returncode == 124
    _let_go(tmp_path / "a", 1)
    assert served.run("wait", str(late), "--timeout=60").returncode == 0


def test_wait_for_a_job_that_is_not_there_says_so_before_it_waits(served: Served, tmp_path: Path) -> None:
    running = _steps(served, tmp_path)
    done = served.run("wait", str(running), "999999")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "Error: there is no job 999999\n")
    _let_go(tmp_path, 1)


# -- submitting once, deleting, queues -----------------------------------------------------------


def test_a_submission_with_a_key_is_made_once_and_forgotten_with_its_job(served: Served) -> None:
    once = ("probes.wrong", "divisor=1", "--idempotency-key=night-17")
    first = _submitted(served, *once)
    assert _submitted(served, *once) == first
    other = served.run("submit", "probes.wrong", "divisor=2", "--idempotency-key=night-17")
    assert (other.returncode, other.stdout) == (1, "")
    assert served.run("wait", str(first)).returncode == 0
    assert served.run("delete", str(first)).stdout == f"job {first} is deleted\n"
    assert served.run("show", str(first)).returncode == 1
    assert _submitted(served, *once) != first


def test_a_job_that_runs_cannot_be_deleted(served: Served, tmp_path: Path) -> None:
    job = _steps(served, tmp_path)
    done = served.run("delete", str(job))
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot delete it" in done.stderr
    _let_go(tmp_path, 1)


def test_jobs_of_a_paused_queue_wait_until_it_is_resumed(served: Served) -> None:
    first = _submitted(served, "probes.wrong", "divisor=1", "--queue=night")
    assert served.run("wait", str(first)).returncode == 0
    paused = served.run("queues", "pause", "night").stdout.splitlines()
    assert paused[1].startswith("night ")
    assert paused[1].endswith(":" + paused[1][-2:])  # since when
    second = _submitted(served, "probes.wrong", "divisor=1", "--queue=night")
    assert served.run("wait", str(second), "--timeout=0.5").returncode == 124
    assert served.run("show", str(second)).stdout.startswith(f"job {second} queued: queue paused\n")
    assert served.run("queues", "resume", "night", "--json").stdout.count('"paused": false') == 1
    assert served.run("wait", str(second)).returncode == 0


def test_the_example_that_tasks_shows_is_one_that_the_api_takes(served: Served) -> None:
    *_, example = served.run("tasks", "trials.draw").stdout.splitlines()
    words = shlex.split(example.removesuffix(" --follow"))
    assert words[:3] == ["jobrunner", "submit", "trials.draw"]
    done = served.run(*words[1:], "--delay=3600")
    assert done.returncode == 0, done.stderr
