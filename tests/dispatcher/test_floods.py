"""Too much of everything: each flood meets its limit, is told which, and memory stays small everywhere."""

import json
import os
import queue
import signal
from pathlib import Path
from typing import Any

from jobrunner import kernel
from jobrunner.clock import utc_now
from jobrunner.dispatcher.outbox import FEW, LARGE_BYTES, Outbox
from jobrunner.dispatcher.writer import BATCH_BYTES, Writer
from jobrunner.lifecycle import State
from jobrunner.reports import EventKind, Report
from tests.dispatcher.running import Daemon, World
from tests.waiting import eventually

MIB = 1 << 20
SMALL = 120 * MIB  #: more than any of our processes may ever use; each of them is 35 to 60 MB at rest


def _peaks(daemon: Daemon) -> dict[str, int]:
    """The most that was ever resident of each process that runs no user code."""
    workers = {f"worker {slot['worker']}": int(slot["pid"]) for slot in daemon.slots()}
    pids = workers | {"dispatcher": daemon.pid, "writer": daemon.writer_pid()}
    return {name: _peak_bytes(pid) for name, pid in pids.items()}


def _peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _assert_small(daemon: Daemon) -> None:
    peaks = _peaks(daemon)
    assert max(peaks.values()) < SMALL, peaks


# -- results and partial results ----------------------------------------------------------------------


def test_a_result_of_a_gigabyte_meets_its_limit_and_leaves_no_trace_in_memory(world: World) -> None:
    daemon = world.start(workers=1)
    job = world.run("big_result", params={"size": 1 << 30}, seconds=60)
    error = world.error(job)
    assert (job.state, error["kind"]) == (State.FAILED, "unserializable")
    assert error["message"] == (
        "result comes to 1.0 GB of JSON, max_result_bytes is 16777216 (16.0 MB): "
        "write it to a file and give back its path, or raise the limit"
    )
    assert error["peak_memory_bytes"] < (1 << 30) + 200 * MIB  # there is no second copy of it
    _assert_small(daemon)


def test_a_partial_result_above_its_limit_names_the_limit(world: World) -> None:
    world.start(workers=1, max_partial_bytes="64K")
    job = world.run("yields_texts", params={"size": 64 << 10, "times": 1})
    assert (
        "partial result 0 comes to 64.0 KB of JSON, max_partial_bytes is 65536" in world.error(job)["message"]
    )
    assert world.run("yields_texts", params={"size": (64 << 10) - 2, "times": 1}).state is State.SUCCEEDED


def test_all_partial_results_of_an_attempt_together_have_a_limit(world: World) -> None:
    world.start(workers=1, max_partials_bytes="1000")
    job = world.run("yields_texts", params={"size": 98}, retries=3)
    error = world.error(job)
    assert (job.state, job.attempt, error["kind"]) == (State.FAILED, 1, "unserializable")
    assert (
        "all up to partial result 10 comes to 1.1 KB of JSON, max_partials_bytes is 1000" in error["message"]
    )
    assert job.partials == 10
    assert world.run("yields_texts", params={"size": 98, "times": 10}).state is State.SUCCEEDED


def test_partial_results_that_come_faster_than_they_can_be_written_wait_and_fill_no_memory(
    world: World,
) -> None:
    daemon = world.start(workers=2)
    writer = daemon.writer_pid()
    os.kill(writer, signal.SIGSTOP)  # a disk that takes nothing at all
    large = world.submit("yields_texts", params={"size": MIB - 2, "times": 300})[0]
    small = world.submit("count", params={"n": 20_000})[0]
    daemon.wait_until_stalled()
    processes = {slot["job_id"]: slot["process_pid"] for slot in daemon.slots()}
    assert max(kernel.usage([pid]).resident_bytes for pid in processes.values()) < SMALL
    os.kill(writer, signal.SIGCONT)
    assert [job.partials for job in world.all_finished([large, small])] == [300, 20_000]
    _assert_small(daemon)


def test_what_is_large_waits_until_little_is_before_it() -> None:
    sent: list[list[Report]] = []
    waiting = [FEW + 1]
    outbox = Outbox(sent.append, lambda: waiting[0])
    outbox.add(Report(1, 1, utc_now(), ((EventKind.PARTIAL, "x" * LARGE_BYTES),)))
    assert outbox.due_at <= 0.0  # at once
    assert not outbox.flush()
    assert (outbox.is_stuck, sent) == (True, [])
    waiting[0] = FEW
    assert outbox.flush()
    assert (outbox.is_stuck, len(sent)) == (False, 1)
    waiting[0] = FEW + 1
    outbox.add(Report(1, 1, utc_now(), ((EventKind.PARTIAL, "small"),)))
    assert outbox.flush()


def test_a_batch_of_large_reports_ends_early(world: World) -> None:
    waiting: Any = queue.Queue()
    for _ in range(40):
        waiting.put([Report(1, 1, utc_now(), ((EventKind.PARTIAL, "x" * MIB),))])
    writer = Writer(waiting, world.store, world.data)
    sizes = [sum(report.size for report in writer._next_batch()) for _ in range(5)]
    assert all(BATCH_BYTES <= size <= BATCH_BYTES + 2 * MIB for size in sizes), sizes


# -- what is printed, and other words -----------------------------------------------------------------


def test_a_job_that_prints_without_end_is_stopped_by_its_timeout_and_fills_no_memory(world: World) -> None:
    daemon = world.start(workers=1, max_log_bytes="64K", grace_seconds=0.2)
    job = world.run("prints_for_ever", timeout_seconds=2.0)
    assert (job.state, world.error(job)["kind"]) == (State.FAILED, "timeout")
    log = world.log(job.id)
    assert len(log) < 80_000
    assert "max_log_bytes is 65536" in log
    assert world.error(job)["log_tail"].count("and on and on") > 100
    _assert_small(daemon)


def test_a_huge_message_of_an_exception_is_cut(world: World) -> None:
    daemon = world.start(workers=1)
    job = world.run("fails_at_length", params={"megabytes": 50})
    error = world.error(job)
    assert (job.state, error["kind"], len(error["message"])) == (State.FAILED, "exception", 10_005)
    assert error["message"].startswith("\\ud800xxx")  # half a pair, made readable
    assert "characters left out" in error["traceback"]
    assert len(error["traceback"]) < 70_000
    _assert_small(daemon)


def test_a_huge_word_about_the_progress_is_cut(world: World) -> None:
    world.start(workers=1)
    job = world.run("progresses_at_length", params={"characters": 50_000_000})
    assert job.state is State.SUCCEEDED
    assert len(json.loads(job.progress or "")["message"]) == 1000


def test_a_limit_counts_what_is_written_whatever_the_value_is(world: World) -> None:
    world.start(workers=1, max_result_bytes="64")
    for value in ("x" * 63, ["x"] * 30, {"x": "x" * 60}, "\u00e9" * 12):
        job = world.run("gives_back", params={"value": value})
        assert "max_result_bytes is 64" in world.error(job)["message"], value
    assert world.run("gives_back", params={"value": "x" * 62}).state is State.SUCCEEDED


def test_jobs_beside_a_flood_go_on(world: World) -> None:
    world.start(workers=2, grace_seconds=0.2)
    (flood,) = world.submit("yields_texts", params={"size": 500_000})
    eventually(lambda: world.job(flood).partials > 5)
    assert {job.state for job in world.all_finished(world.submit("pid", times=50))} == {State.SUCCEEDED}
    assert world.job(flood).state is State.RUNNING
    world.cancel(flood)
    assert world.finished(flood).state is State.CANCELLED
