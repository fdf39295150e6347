"""What dies, and what it costs whom."""

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from jobrunner.lifecycle import Ending, State
from tests.dispatcher.running import World, is_gone, told
from tests.waiting import eventually


def _hold(world: World, directory: Path, name: str, **more: object) -> tuple[int, dict[str, int]]:
    """Submit a job that holds on; return its id and who runs it, once it does."""
    (job_id,) = world.submit("hold", params={"directory": str(directory), "name": name}, **more)  # type: ignore[arg-type]
    return job_id, json.loads(eventually(told(directory, name)))


# -- the job process -----------------------------------------------------------------------------


def test_a_killed_job_process_costs_its_neighbour_nothing(world: World, tmp_path: Path) -> None:
    world.start()
    victim, at = _hold(world, tmp_path, "victim", crash_retries=1)
    neighbour, _ = _hold(world, tmp_path, "neighbour")
    os.kill(at["pid"], signal.SIGKILL)
    eventually(lambda: world.job(victim).attempt == 2)  # after a backoff
    (tmp_path / "go").touch()
    job = world.finished(victim)
    assert (job.state, job.crash_retries_used) == (State.SUCCEEDED, 1)
    first, _ = world.attempts(victim)
    assert first.outcome is Ending.CRASHED
    error = json.loads(first.error or "")
    assert (error["kind"], error["signal"], error["exit_code"]) == ("crashed", "SIGKILL", None)
    assert error["message"] == "its process was killed by SIGKILL"
    beside = world.finished(neighbour)
    assert (beside.state, beside.attempt) == (State.SUCCEEDED, 1)


def test_a_job_process_that_dies_while_idle_is_no_fault_of_the_next_job(world: World) -> None:
    daemon = world.start(workers=1)
    assert world.run("pid").result is not None
    process = daemon.slots()[0]["process_pid"]
    os.kill(process, signal.SIGKILL)
    eventually(lambda: is_gone(process))
    job = world.run("add", params={"a": 1, "b": 1}, crash_retries=0)
    assert (job.state, job.result) == (State.SUCCEEDED, "2")


@pytest.mark.parametrize(
    ("task", "signal_name", "exit_code", "log_tail"),
    [("exits", None, 3, "last words\n"), ("segfaults", "SIGSEGV", None, None)],
)
def test_a_death_is_recorded_with_its_signal_or_exit_code(
    world: World, task: str, signal_name: str | None, exit_code: int | None, log_tail: str | None
) -> None:
    world.start()
    job = world.run(task, crash_retries=1)
    error = world.error(job)
    assert (job.state, job.attempt, job.crash_retries_used) == (State.FAILED, 2, 1)
    assert (error["kind"], error["signal"], error["exit_code"]) == ("crashed", signal_name, exit_code)
    assert error["log_tail"] == log_tail
    assert world.run("add", params={"a": 1, "b": 1}).result == "2"


def test_crash_retries_zero_is_at_most_once(world: World) -> None:
    world.start()
    job = world.run("exits", crash_retries=0)
    assert (job.state, job.attempt) == (State.FAILED, 1)


def test_a_task_that_closes_its_pipe_is_named_as_such(world: World) -> None:
    world.start()
    job = world.run("closes_everything", crash_retries=0)
    error = world.error(job)
    assert error["kind"] == "crashed"
    assert "closed the Pipe" in error["message"]


# -- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["stuck_in_c", "ignores_sigterm", "cleans_up"])
def test_cancel_stops_whatever_the_task_does(world: World, tmp_path: Path, task: str) -> None:
    world.start()
    (job_id,) = world.submit(task, params={"directory": str(tmp_path)})
    pid = int(eventually(told(tmp_path, "stuck")))
    assert world.cancel(job_id) is State.RUNNING
    job = world.finished(job_id)
    assert (job.state, job.error, job.result) == (State.CANCELLED, None, None)
    assert world.attempts(job_id)[0].outcome is Ending.CANCELLED
    eventually(lambda: is_gone(pid))
    assert (tmp_path / "cleaned").exists() is (task == "cleans_up")


@pytest.mark.parametrize("task", ["stuck_in_c", "ignores_sigterm", "cleans_up"])
def test_a_timeout_stops_whatever_the_task_does(world: World, tmp_path: Path, task: str) -> None:
    world.start(grace_seconds=0.2)
    job = world.run(task, params={"directory": str(tmp_path)}, timeout_seconds=0.5, retries=1)
    error = world.error(job)
    assert (job.state, job.attempt, job.retries_used) == (State.FAILED, 2, 1)
    assert (error["kind"], error["message"]) == ("timeout", "it ran past its timeout of 0.5 s")


def test_importing_the_modules_again_is_not_the_next_jobs_time(world: World) -> None:
    (world.data / "slow.py").write_text("import threading\nthreading.Event().wait(1.5)\n")
    world.start(tasks="slow,faults", workers=1)
    died, after = world.submit("exits", crash_retries=0)[0], world.submit("nothing", timeout_seconds=0.5)[0]
    assert world.finished(died).state is State.FAILED
    assert world.finished(after).state is State.SUCCEEDED


def test_a_cancelled_job_takes_its_children_along_wherever_they_went(world: World, tmp_path: Path) -> None:
    world.start()
    (job_id,) = world.submit("has_children", params={"directory": str(tmp_path)})
    pids = json.loads(eventually(told(tmp_path, "children")))
    assert len(pids) == 3
    world.cancel(job_id)
    assert world.finished(job_id).state is State.CANCELLED
    eventually(lambda: all(map(is_gone, pids)))


def test_a_queued_job_is_cancelled_before_it_runs(world: World, tmp_path: Path) -> None:
    world.start(workers=1)
    _hold(world, tmp_path, "held")
    (job_id,) = world.submit("nothing")
    assert world.cancel(job_id) is State.CANCELLED
    (tmp_path / "go").touch()
    assert world.attempts(job_id) == []


@pytest.mark.parametrize(("task", "params"), [("eats_memory", {}), ("child_eats_memory", {})])
def test_a_job_above_its_memory_limit_is_killed_alone(
    world: World, tmp_path: Path, task: str, params: dict[str, object]
) -> None:
    world.start()
    neighbour, _ = _hold(world, tmp_path, "neighbour")
    directory = {"directory": str(tmp_path / "full")} if task == "eats_memory" else {}
    (tmp_path / "full").mkdir()
    params = {"megabytes": 300, **directory, **params}
    job = world.run(task, params=params, memory_limit_bytes=150 << 20, crash_retries=0)
    error = world.error(job)
    assert (job.state, error["kind"]) == (State.FAILED, "memory_limit")
    assert "its memory_limit is 150.0 MB" in error["message"]
    assert error["peak_memory_bytes"] > 150 << 20
    assert world.job(neighbour).state is State.RUNNING
    assert world.job(neighbour).attempt == 1


# -- the fabric ----------------------------------------------------------------------------------


def test_a_killed_busy_worker_gives_its_job_back_charged_and_its_neighbours_uncharged(
    world: World, tmp_path: Path
) -> None:
    daemon = world.start()
    victim, at = _hold(world, tmp_path, "victim")
    neighbour, beside = _hold(world, tmp_path, "neighbour")
    os.kill(at["worker"], signal.SIGKILL)
    assert daemon.wait() == os.EX_SOFTWARE
    eventually(lambda: is_gone(at["pid"]) and is_gone(beside["pid"]))
    assert (world.job(victim).state, world.job(victim).crash_retries_used) == (State.QUEUED, 1)
    assert (world.job(neighbour).state, world.job(neighbour).crash_retries_used) == (State.QUEUED, 0)
    assert world.attempts(victim)[0].outcome is Ending.LOST
    assert world.attempts(neighbour)[0].outcome is Ending.RELEASED
    (tmp_path / "go").touch()
    world.start()
    assert [job.state for job in world.all_finished([victim, neighbour])] == [State.SUCCEEDED] * 2


def test_a_killed_idle_worker_ends_the_dispatcher_for_its_supervisor(world: World) -> None:
    daemon = world.start()
    os.kill(daemon.slots()[0]["pid"], signal.SIGKILL)
    assert daemon.wait() == os.EX_SOFTWARE
    assert "worker 0 died" in daemon.said
    assert world.dispatchers() == []
    world.start()
    assert world.run("add", params={"a": 1, "b": 2}).result == "3"


def test_a_worker_that_dies_while_it_comes_up_ends_the_dispatcher_at_once(world: World) -> None:
    # The catalogue's process imports it first, then those of the workers, which have to wait.
    (world.data / "slow.py").write_text(
        "import os, pathlib, threading\n"
        f"seen = pathlib.Path({str(world.data)!r}, 'seen')\n"
        "if seen.exists():\n"
        "    seen.with_name('worker').write_text(str(os.getppid()))\n"
        "    threading.Event().wait(100)\n"
        "seen.touch()\n"
    )
    daemon = world.start(ready=False, tasks="slow,faults", workers=1)
    os.kill(int(eventually(told(world.data, "worker"), 60)), signal.SIGKILL)
    assert daemon.wait() == os.EX_SOFTWARE
    assert "a worker died while it came up" in daemon.said


def test_a_killed_result_writer_loses_nothing_and_is_blamed_on_what_ran(world: World, tmp_path: Path) -> None:
    daemon = world.start()
    job_id, _ = _hold(world, tmp_path, "held")
    os.kill(daemon.writer_pid(), signal.SIGKILL)
    assert daemon.wait() == os.EX_SOFTWARE
    assert "the result writer died" in daemon.said
    (tmp_path / "go").touch()
    world.start()
    job = world.finished(job_id)
    assert (job.state, job.result, job.crash_retries_used) == (State.SUCCEEDED, '"held"', 1)
    assert (
        json.loads(world.attempts(job_id)[0].error or "")["message"] == "the result writer died while it ran"
    )


def test_no_orphan_outlives_a_killed_dispatcher_and_the_next_one_gives_its_jobs_back(
    world: World, tmp_path: Path
) -> None:
    daemon = world.start()
    (with_children,) = world.submit("has_children", params={"directory": str(tmp_path)}, crash_retries=0)
    pids = json.loads(eventually(told(tmp_path, "children")))
    job_id, _ = _hold(world, tmp_path, "held")
    family = daemon.family()
    assert family > set(pids)
    daemon.signal(signal.SIGKILL)
    eventually(lambda: all(map(is_gone, family)), seconds=5)
    assert world.job(job_id).state is State.RUNNING  # nobody has told the store
    (tmp_path / "go").touch()
    world.start()
    job = world.finished(job_id)
    assert (job.state, job.attempt, job.crash_retries_used) == (State.SUCCEEDED, 2, 1)
    assert world.attempts(job_id)[0].outcome is Ending.LOST
    lost = world.finished(with_children)
    assert (lost.state, world.error(lost)["kind"]) == (State.FAILED, "lost")


def test_a_kill_while_results_stream_leaves_no_gap(world: World) -> None:
    daemon = world.start()
    (job_id,) = world.submit("count", params={"n": 200_000})
    eventually(lambda: world.job(job_id).partials > 1000)
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    world.start()
    job = world.finished(job_id, seconds=60)
    found = world.events(job_id)
    assert [event.seq for event in found] == list(range(1, job.version + 1))
    for number in (1, 2):
        values = [int(e.data) for e in found if e.attempt == number and e.kind == "partial"]
        assert values == list(range(len(values)))
    assert len(values) == 200_000
    assert job.partials == len([e for e in found if e.kind == "partial"])


def test_a_result_writer_that_stands_still_slows_the_job_and_loses_nothing(world: World) -> None:
    daemon = world.start(workers=1)
    writer = daemon.writer_pid()
    os.kill(writer, signal.SIGSTOP)
    (job_id,) = world.submit("count", params={"n": 400_000})
    daemon.wait_until_stalled()
    assert world.job(job_id).partials == 0
    os.kill(writer, signal.SIGCONT)
    job = world.finished(job_id, seconds=60)
    assert (job.state, job.partials) == (State.SUCCEEDED, 400_000)
    assert world.partials(job_id) == list(range(400_000))


def test_a_job_can_be_cancelled_while_the_result_writer_stands_still(world: World) -> None:
    daemon = world.start(workers=1)
    writer = daemon.writer_pid()
    os.kill(writer, signal.SIGSTOP)
    (job_id,) = world.submit("count", params={"n": 100_000_000})
    daemon.wait_until_stalled()
    process = daemon.slots()[0]["process_pid"]
    world.cancel(job_id)
    eventually(lambda: is_gone(process))
    os.kill(writer, signal.SIGCONT)
    assert world.finished(job_id).state is State.CANCELLED


def test_no_worker_outlives_the_dispatcher_behind_a_full_queue(world: World) -> None:
    daemon = world.start(workers=1)
    writer = daemon.writer_pid()
    os.kill(writer, signal.SIGSTOP)
    world.submit("count", params={"n": 100_000_000})
    daemon.wait_until_stalled()
    (slot,) = daemon.slots()
    family = daemon.family()
    daemon.signal(signal.SIGKILL)
    eventually(lambda: is_gone(slot["pid"]) and is_gone(slot["process_pid"]), seconds=5)
    os.kill(writer, signal.SIGCONT)
    eventually(lambda: all(map(is_gone, family)), seconds=5)


def test_a_store_that_is_locked_when_the_pool_breaks_does_not_keep_the_dispatcher_from_ending(
    world: World, tmp_path: Path
) -> None:
    daemon = world.start(lease_seconds=2)
    job_id, at = _hold(world, tmp_path, "held")
    with world.store.write(durable=False):
        os.kill(at["worker"], signal.SIGKILL)
        assert daemon.wait(40) == os.EX_SOFTWARE
    (tmp_path / "go").touch()
    world.start(lease_seconds=2)
    job = world.finished(job_id)
    assert (job.state, job.crash_retries_used) == (State.SUCCEEDED, 1)


def test_dispatchers_that_could_not_write_for_longer_than_the_lease_do_not_rob_each_other(
    world: World, tmp_path: Path
) -> None:
    world.start(workers=1, lease_seconds=2)
    world.start(workers=1, lease_seconds=2)
    first, _ = _hold(world, tmp_path, "first", crash_retries=0)
    second, _ = _hold(world, tmp_path, "second", crash_retries=0)
    beats = [one.heartbeat_at for one in world.dispatchers()]
    with world.store.write(durable=False):
        # Real time must pass here: the lease is a time, and nothing else can be seen to end it.
        assert not threading.Event().wait(4)
    eventually(lambda: all(one.heartbeat_at > max(beats) for one in world.dispatchers()))
    (tmp_path / "go").touch()
    assert [job.state for job in world.all_finished([first, second])] == [State.SUCCEEDED] * 2
    assert len(world.dispatchers()) == 2


# -- several dispatchers ---------------------------------------------------------------------------


def test_two_dispatchers_on_one_file_run_each_job_once(world: World) -> None:
    world.start()
    world.start()
    ids = world.submit("pid", times=400)
    done = world.all_finished(ids)
    assert {job.state for job in done} == {State.SUCCEEDED}
    ends = [[one.outcome for one in world.attempts(job.id)] for job in done]
    assert all(outcomes.count(Ending.SUCCEEDED) == 1 for outcomes in ends)
    assert {outcome for outcomes in ends for outcome in outcomes} <= {Ending.SUCCEEDED, Ending.RELEASED}
    holders = {one.dispatcher_id for job in done for one in world.attempts(job.id)}
    assert len(holders) == 2


def test_a_dispatcher_gives_back_what_a_dead_one_beside_it_held(world: World, tmp_path: Path) -> None:
    first = world.start(workers=1)
    job_id, _ = _hold(world, tmp_path, "held")
    world.start()
    first.signal(signal.SIGKILL)
    first.wait()
    eventually(lambda: world.job(job_id).attempt == 2)
    (tmp_path / "go").touch()
    job = world.finished(job_id)
    assert (job.state, job.attempt, job.crash_retries_used) == (State.SUCCEEDED, 2, 1)


def test_a_dispatcher_that_was_stopped_for_longer_than_its_lease_ends_and_records_nothing(
    world: World, tmp_path: Path
) -> None:
    frozen = world.start(workers=1, lease_seconds=2)
    job_id, at = _hold(world, tmp_path, "held")
    frozen.signal(signal.SIGSTOP)
    world.start(workers=1, lease_seconds=2)
    eventually(lambda: world.job(job_id).attempt == 2, seconds=20)
    frozen.signal(signal.SIGCONT)
    assert frozen.wait() == os.EX_TEMPFAIL
    assert "given up for dead" in frozen.said
    eventually(lambda: is_gone(at["pid"]))
    (tmp_path / "go").touch()
    job = world.finished(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    assert [one.outcome for one in world.attempts(job_id)] == [Ending.LOST, Ending.SUCCEEDED]
