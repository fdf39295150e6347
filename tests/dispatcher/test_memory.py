"""What jobs use is seen and limited, whatever they start and however they end."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobrunner import kernel
from jobrunner.lifecycle import Ending, State
from jobrunner.store.attempts import Attempt
from tests.dispatcher.running import Daemon, World, is_gone, told
from tests.waiting import eventually

MIB = 1 << 20


# -- the limit --------------------------------------------------------------------------------------


def test_the_limit_holds_for_a_grandchild_that_has_left_the_session_and_its_parent(
    world: World, tmp_path: Path
) -> None:
    world.start(workers=1)
    params = {"directory": str(tmp_path), "megabytes": 400}
    job = world.run("daemon_eats", params=params, memory_limit_bytes=150 * MIB, crash_retries=0)
    error = world.error(job)
    assert (job.state, error["kind"]) == (State.FAILED, "memory_limit")
    assert error["peak_memory_bytes"] > 150 * MIB
    assert is_gone(int(told(tmp_path, "daemon")()))


def test_children_of_a_task_are_the_kernels_first_victims_too(world: World) -> None:
    world.start(workers=1)
    assert world.run("oom_score").result == '["1000","1000"]'


# -- the kernel's own choice ------------------------------------------------------------------------


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A cgroup with little memory, below that of the tests."""
    counter = kernel.oom_counter()
    if counter is None or os.geteuid() != 0:
        pytest.skip("a cgroup with a limit on memory can be made by root alone, where memory is counted")
    made = counter.parent / f"jobrunner-test-{os.getpid()}"
    limits = {"memory.oom_control": "memory.limit_in_bytes", "memory.events": "memory.max"}
    try:
        made.mkdir()
        (made / limits[counter.name]).write_text(str(500 * MIB))
    except OSError as error:
        pytest.skip(f"no cgroup with a limit on memory can be made here: {error}")
    yield made
    eventually(lambda: not (made / "cgroup.procs").read_text())
    made.rmdir()


def _starts_in(cgroup: Path) -> list[str]:
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(cgroup)]


def test_a_job_that_the_oom_killer_takes_is_told_apart_and_its_neighbours_live(
    small_cgroup: Path, world: World, tmp_path: Path
) -> None:
    daemon = world.start(wrapper=_starts_in(small_cgroup))
    (neighbour,) = world.submit("hold", params={"directory": str(tmp_path)})
    eventually(told(tmp_path, "held"))
    eaten = world.run("eats_memory", params={"megabytes": 4000}, crash_retries=0)
    (killed,) = world.submit("works", params={"directory": str(tmp_path)}, crash_retries=0)
    os.kill(int(eventually(told(tmp_path, "works"))), signal.SIGKILL)
    by_kernel, by_hand = world.error(eaten), world.error(world.finished(killed))
    assert (by_kernel["kind"], by_kernel["signal"], by_kernel["oom_killed"]) == ("crashed", "SIGKILL", True)
    assert "memory_limit" in by_kernel["message"]
    assert (by_hand["kind"], by_hand["signal"], by_hand["oom_killed"]) == ("crashed", "SIGKILL", False)
    (tmp_path / "go").touch()
    beside = world.finished(neighbour)
    assert (beside.state, beside.attempt) == (State.SUCCEEDED, 1)
    assert daemon.process.poll() is None
    daemon.kill_all()


EATER = "from pathlib import Path; Path('/proc/self/oom_score_adj').write_text('1000'); b'x' * (4 << 30)"


def test_what_the_oom_killer_took_before_is_no_reason_for_a_death_among_those_that_travel_together(
    small_cgroup: Path, world: World
) -> None:
    daemon = world.start(wrapper=_starts_in(small_cgroup), tasks="short", workers=1)
    for _ in range(2):  # the first one tells that the task is short
        world.all_finished(world.submit("short", times=8))
    eater = subprocess.run([*_starts_in(small_cgroup), sys.executable, "-c", EATER], check=False)
    assert eater.returncode == -signal.SIGKILL
    ids = world.submit_each("short", [{}, {"do": "is_killed"}, {}], crash_retries=1)
    world.all_finished(ids)
    errors = [json.loads(one.error or "{}") for one in world.attempts(ids[1])]
    assert [(error["signal"], error["oom_killed"]) for error in errors] == [("SIGKILL", False)] * 2
    daemon.kill_all()


# -- what an attempt has used ------------------------------------------------------------------------


def _works(
    world: World, directory: Path, name: str, crash_retries: int = 2, timeout_seconds: float | None = None
) -> tuple[int, int]:
    """Submit a job that uses memory and CPU; return its id and its process, once it has used some."""
    params = {"directory": str(directory), "name": name}
    (job_id,) = world.submit(
        "works", params=params, crash_retries=crash_retries, timeout_seconds=timeout_seconds
    )
    return job_id, int(eventually(told(directory, name)))


def _seen_by_heartbeat(daemon: Daemon, job_id: int) -> dict[str, float]:
    """Wait for a heartbeat that tells what the job has used."""
    return eventually(
        lambda: [
            slot for slot in daemon.slots() if slot["job_id"] == job_id and (slot["cpu_seconds"] or 0) > 0.1
        ]
    )[0]


def _used(attempt: Attempt) -> tuple[Ending | None, bool, bool]:
    """How the attempt ended, and whether it says what it has certainly used."""
    memory, cpu_seconds = attempt.peak_memory_bytes or 0, attempt.cpu_seconds or 0.0
    return attempt.outcome, 64 * MIB < memory < 300 * MIB, 0.1 < cpu_seconds < 60


def test_a_timeout_and_a_cancel_tell_what_the_attempt_has_used(world: World, tmp_path: Path) -> None:
    world.start(grace_seconds=0.2)
    timed, _ = _works(world, tmp_path, "timed", timeout_seconds=1.5)
    cancelled, _ = _works(world, tmp_path, "cancelled")
    world.cancel(cancelled)
    ends = [_used(world.attempts(job.id)[0]) for job in world.all_finished([timed, cancelled])]
    assert ends == [(Ending.TIMEOUT, True, True), (Ending.CANCELLED, True, True)]


def test_what_was_lost_or_released_with_a_worker_tells_what_it_had_used(world: World, tmp_path: Path) -> None:
    daemon = world.start()
    lost, pid = _works(world, tmp_path, "lost", crash_retries=0)
    released, _ = _works(world, tmp_path, "released", crash_retries=0)
    for job_id in (lost, released):
        _seen_by_heartbeat(daemon, job_id)
    os.kill(kernel.parent(pid), signal.SIGKILL)
    daemon.wait()
    ends = [_used(world.attempts(job.id)[0]) for job in world.all_finished([lost, released])]
    assert ends == [(Ending.LOST, True, True), (Ending.RELEASED, True, True)]
    assert world.error(world.job(lost))["cpu_seconds"] == world.attempts(lost)[0].cpu_seconds
    assert "worker" in world.error(world.job(lost))["message"]


def test_what_was_lost_with_its_dispatcher_tells_what_the_last_heartbeat_saw(
    world: World, tmp_path: Path
) -> None:
    daemon = world.start(workers=1)
    lost, _ = _works(world, tmp_path, "lost", crash_retries=0)
    seen = _seen_by_heartbeat(daemon, lost)
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    world.start(workers=1)
    (attempt,) = world.attempts(world.finished(lost).id)
    assert _used(attempt) == (Ending.LOST, True, True)
    assert attempt.worker == 0
    assert (attempt.cpu_seconds or 0) >= seen["cpu_seconds"]


def test_cpu_of_earlier_jobs_is_not_counted_again(world: World, tmp_path: Path) -> None:
    world.start(workers=1)
    for _ in range(3):
        assert world.run("burns", params={"seconds": 0.5}).state is State.SUCCEEDED
    (job_id,) = world.submit("hold", params={"directory": str(tmp_path)})
    eventually(told(tmp_path, "held"))
    world.cancel(job_id)
    (attempt,) = world.attempts(world.finished(job_id).id)
    assert attempt.cpu_seconds is not None
    assert attempt.cpu_seconds < 0.4


def test_what_children_have_used_counts_though_nobody_waited_for_them(world: World, tmp_path: Path) -> None:
    world.start(workers=1)
    (job_id,) = world.submit("child_burns", params={"directory": str(tmp_path), "seconds": 0.5})
    eventually(told(tmp_path, "burnt"))
    assert not threading.Event().wait(0.2)  # a look at it is taken 20 times a second
    world.cancel(job_id)
    (attempt,) = world.attempts(world.finished(job_id).id)
    assert attempt.cpu_seconds is not None
    assert attempt.cpu_seconds > 0.4
