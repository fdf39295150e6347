"""The real thing: `jobrunner serve`, and the commands against it."""

import json
import os
import pty
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import Served, command, environ, serving
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    flags = ("--tasks=jobrunner.examples", "--tasks=probes", "--grace-seconds=1")
    with serving(tmp_path_factory.mktemp("served"), *flags) as running:
        yield running.wait_until_ready()


def _job(served: Served, job_id: int) -> Any:
    return json.loads(served.run("show", str(job_id), "--json").stdout)


# -- submit and follow ---------------------------------------------------------------------------


def test_the_first_line_that_serve_prints_works(served: Served) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    answer = subprocess.run(["sh", "-c", served.first_line], capture_output=True, check=True)
    job = json.loads(answer.stdout)
    followed = served.run("show", str(job["id"]), "--follow")
    assert followed.returncode == 0
    assert 'result: {"count": 78498, "largest": 999983}' in followed.stdout


def test_a_job_is_followed_to_its_result(served: Served) -> None:
    done = served.run("submit", "examples.primes", "n=1000000", "segment=250000", "--follow")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    partials = [json.loads(line.removeprefix("partial: ")) for line in lines if line.startswith("partial: ")]
    assert [partial["last"] for partial in partials] == [250_001, 500_001, 750_001, 1_000_000]
    assert lines[-2].startswith("job ")
    assert " succeeded after " in lines[-2]
    assert lines[-1] == 'result: {"count": 78498, "largest": 999983}'


def test_partial_results_are_seen_as_they_come_not_at_the_end(served: Served, tmp_path: Path) -> None:
    followed = served.start("submit", "probes.steps", f"folder={tmp_path}", "--follow")
    for step in (1, 2, 3):
        followed.wait_until_it_says(
            f"progress: {step - 1} of 3, waiting for {step}" if step == 1 else "partial"
        )
        (tmp_path / str(step)).touch()
        followed.wait_until_it_says(f'partial: {{"step": {step}}}')
    assert followed.status() == 0
    assert followed.said().splitlines()[-1] == "result: 3"


def test_a_job_that_fails_ends_the_follower_with_1_and_its_traceback(served: Served) -> None:
    done = served.run("submit", "probes.wrong", "--follow")
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stdout
    assert "return 1 / divisor" in done.stdout


def test_a_job_that_is_cancelled_ends_the_follower_with_3(served: Served, tmp_path: Path) -> None:
    followed = served.start("submit", "probes.steps", f"folder={tmp_path}", "--follow")
    followed.wait_until_it_says("waiting for 1")
    job_id = followed.said().split()[1]
    cancelled = served.run("cancel", job_id)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"job {job_id} running: stopping\n")
    assert followed.status() == 3
    assert f"job {job_id} cancelled after " in followed.said()


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(served: Served, tmp_path: Path) -> None:
    followed = served.start("submit", "probes.steps", f"folder={tmp_path}", "--follow")
    followed.wait_until_it_says("waiting for 1")
    job_id = int(followed.said().split()[1])
    followed.process.send_signal(signal.SIGINT)
    assert followed.status() == 130
    assert f"job {job_id} goes on." in followed.said()
    assert f"jobrunner show {job_id} --follow" in followed.said()
    assert f"jobrunner cancel {job_id}" in followed.said()
    assert _job(served, job_id)["state"] == "running"
    for step in (1, 2, 3):
        (tmp_path / str(step)).touch()
    again = served.run("show", str(job_id), "--follow")
    assert again.returncode == 0
    assert again.stdout.count("partial: ") == 3, "from the first partial result on"


def test_in_a_terminal_there_is_a_bar_with_the_partial_results_above_it(served: Served) -> None:
    person, program = pty.openpty()
    arguments = ["submit", "examples.primes", "n=1000000", "segment=250000", "--follow"]
    follower = subprocess.Popen(
        command(*arguments),
        env=environ(JOBRUNNER_URL=served.url, TERM="xterm", COLUMNS="100"),
        stdout=program,
        stderr=program,
    )
    os.close(program)
    shown = _all_that_is_shown(person)
    assert follower.wait(60) == 0
    assert 'partial: {"first": 2, "last": 250001, "primes": 22044, "count": 22044}' in shown
    assert "━" in shown
    assert "1,000,000 of 1,000,000" in shown
    assert 'result: {"count": 78498, "largest": 999983}' in shown


def _all_that_is_shown(person: int) -> str:
    shown = b""
    with open(person, "rb", buffering=0) as terminal:
        while True:
            try:
                shown += terminal.read(4096)
            except OSError:  # how Linux says that nobody holds the other end any more
                return shown.decode()


# -- looking back --------------------------------------------------------------------------------


def test_what_was_submitted_is_listed_shown_and_its_log_printed(served: Served, tmp_path: Path) -> None:
    for step in (1, 2):
        (tmp_path / str(step)).touch()
    label = f"test={tmp_path.name}"
    arguments = (
        "submit",
        "probes.steps",
        f"folder={tmp_path}",
        "count=2",
        "--label",
        label,
        "--follow",
        "--json",
    )
    done = served.run(*arguments)
    *partials, job = map(json.loads, done.stdout.splitlines())
    assert [one["value"] for one in partials] == [{"step": 1}, {"step": 2}]
    (listed,) = json.loads(served.run("list", "--label", label, "--json").stdout)
    assert listed["id"] == job["id"]
    assert served.run("list", "--label", label).stdout.splitlines()[1].split()[:3] == [
        str(job["id"]),
        "succeeded",
        "probes.steps",
    ]
    assert f"  labels     {label}" in served.run("show", str(job["id"])).stdout
    assert served.run("log", str(job["id"])).stdout == "step 1\nstep 2\n"
    assert served.run("log", str(job["id"]), "--tail", "1").stdout == "step 2\n"


def test_a_job_that_failed_can_be_tried_again(served: Served) -> None:
    job_id = served.run("submit", "probes.wrong", "--follow").stdout.split()[1]
    assert served.run("retry", job_id).stdout.startswith(f"job {job_id} queued")
    assert served.run("show", job_id, "--follow").returncode == 1
    assert _job(served, int(job_id))["attempt"] == 2


def test_a_scheduled_job_can_be_cancelled_before_it_runs(served: Served) -> None:
    job = json.loads(served.run("submit", "probes.wrong", "--delay", "3600", "--json").stdout)
    assert (job["state"], job["reason"]) == ("queued", "scheduled")
    assert served.run("cancel", str(job["id"])).stdout == f"job {job['id']} cancelled\n"
    assert served.run("show", str(job["id"]), "--follow").returncode == 3


def test_the_tasks_are_listed_and_described(served: Served) -> None:
    listed = served.run("tasks").stdout
    assert "probes.steps           Do a step for each file that appears in a folder: 1, 2, 3." in listed
    described = served.run("tasks", "probes.steps").stdout
    assert "  folder     string   (must be given)" in described
    assert "  count      integer  3" in described
    assert "  jobrunner submit probes.steps folder=text --follow" in described


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["submit", "probes.stepz"], "no task is named 'probes.stepz'; known: "),
        (["submit", "probes.steps"], "#/params/folder: is required"),
        (["submit", "probes.wrong", "divisor=x"], "#/params/divisor: must be of type integer"),
        (["submit", "probes.wrong", "divisoor=1"], "#/params/divisoor: is not a parameter"),
        (["submit", "probes.wrong", "--timeout=-1"], "timeout"),
        (["show", "999999"], "there is no job 999999"),
        (["tasks", "nope"], "'nope'"),
    ],
)
def test_what_is_refused_is_one_line_on_stderr_and_status_1(
    served: Served, arguments: list[str], why: str
) -> None:
    done = served.run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


# -- map jobs ------------------------------------------------------------------------------------


def test_a_task_is_mapped_over_a_range_and_its_values_are_reduced(served: Served) -> None:
    words = ["examples.is_prime", "--map", "n=0..100000", "--reduce", "examples.how_many", "--follow"]
    done = served.run("submit", *words)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "result: 9592")


def test_a_map_job_from_its_submission_to_each_value(served: Served, tmp_path: Path) -> None:
    (tmp_path / "numbers").write_text("1\n2\n0\n4\n")
    words = ["probes.wrong", "--map", f"divisor=@{tmp_path}/numbers", "--chunk-size=1", "--json"]
    job_id = str(json.loads(served.run("submit", *words).stdout)["id"])
    waited = served.run("wait", job_id)
    assert waited.returncode == 1
    assert "1 of 4 items failed, the first is item 2: ZeroDivisionError: division by zero" in waited.stdout
    assert served.run("result", job_id).returncode == 1
    failed = served.run("items", job_id, "--state", "failed").stdout.splitlines()
    assert [line.split()[:4] for line in failed[1:]] == [["2", "failed", '{"divisor":', "0}"]]
    kept = [json.loads(line) for line in served.run("items", job_id, "--json").stdout.splitlines()]
    assert [one["value"] for one in kept] == [1.0, 0.5, None, 0.25]
    assert served.run("retry", job_id, "--only-failed").returncode == 0
    assert served.run("wait", job_id).returncode == 1
    assert [one["attempt"] for one in _items(served, job_id)] == [1, 1, 2, 1]
    words = ["probes.wrong", '--map=[{"divisor": 1}]', "--json"]
    assert served.run("submit", *words).returncode == 2
    done = json.loads(served.run("submit", "probes.wrong", "--map=divisor=[1,2,4]", "--json").stdout)
    assert served.run("result", str(done["id"])).stdout == "1.0\n0.5\n0.25\n"


def _items(served: Served, job_id: str) -> list[Any]:
    return [json.loads(line) for line in served.run("items", job_id, "--json").stdout.splitlines()]


# -- deaths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["api", "dispatcher"])
def test_a_part_that_is_killed_comes_back_and_a_job_that_is_followed_ends_well(
    served: Served, tmp_path: Path, part: str
) -> None:
    followed = served.start("submit", "probes.steps", f"folder={tmp_path}", "--follow")
    (tmp_path / "1").touch()
    followed.wait_until_it_says('partial: {"step": 1}')
    pid = served.parts()[part]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: served.parts().get(part, pid) != pid)
    for step in (2, 3):
        (tmp_path / str(step)).touch()
    assert followed.status() == 0, served.logged()
    assert followed.said().splitlines()[-1] == "result: 3"
    assert f"jobrunner: {part} died (killed by SIGKILL): starting it again in 0.1 s" in served.logged()
