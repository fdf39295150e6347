"""What dies in the middle of a map job: nothing that is recorded is lost or runs again."""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from jobrunner import kernel
from jobrunner.lifecycle import Ending, State
from tests.dispatcher.running import Daemon, World, is_gone
from tests.dispatcher.sweeps import Sweep, sweep
from tests.waiting import eventually

SETTINGS: dict[str, Any] = {"tasks": "map_faults", "drain_seconds": 0.1, "grace_seconds": 5}


# -- the fabric ----------------------------------------------------------------------------------


ENDED = ("job process", "worker", "drained", "writer", "forkserver", "dispatcher")
STEP = 3000  #: items from one that waits to the next
EACH = 3 * STEP  #: items that run before the next one ends
COUNT = EACH * len(ENDED)


def victim(daemon: Daemon, role: str) -> int:
    slot = daemon.slots()[0]
    if role == "writer":
        return daemon.writer_pid()
    if role == "forkserver":
        return kernel.parent(int(slot["pid"]))
    return {"job process": int(slot["process_pid"]), "worker": int(slot["pid"])}.get(role, daemon.pid)


def ended(job: Sweep, daemon: Daemon, role: str, until: int) -> Daemon:
    """Let the items up to this one run, and end somebody in the middle of that; return the dispatcher that goes on."""
    before, began, family, pid = job.job.partials, job.noted_bytes, daemon.family(), victim(daemon, role)
    job.go(*range(0, until, STEP))
    eventually(lambda: job.job.partials > before + 500, 30)
    recorded, since, charged = job.values(), job.noted_bytes, job.charged()
    os.kill(pid, signal.SIGTERM if role == "drained" else signal.SIGKILL)
    if role != "job process":
        status = daemon.wait()
        eventually(lambda: all(map(is_gone, family)))
        recorded, since = job.values(), job.noted_bytes
        in_doubt = job.runs(began).keys() - recorded.keys()
        assert job.job.state is State.RUNNING if role == "dispatcher" else State.QUEUED
        if role == "dispatcher":  # nobody has told the store
            assert in_doubt <= job.in_hand()
        if role == "drained":
            assert (status, job.charged()) == (os.EX_OK, charged)
            waited = [number for number in in_doubt if number % STEP == 0]
            assert all((job.directory / f"{number}.tidied").exists() for number in waited)
        daemon = job.world.start(**SETTINGS)
    eventually(lambda: job.job.partials > len(recorded), 30)
    assert not job.runs(since).keys() & recorded.keys()
    return daemon


def test_whatever_ends_no_item_that_is_recorded_is_lost_or_runs_again(world: World, tmp_path: Path) -> None:
    """Between fast items some wait, so each end meets both."""
    job = sweep(world, tmp_path / "runs", "passes", COUNT, params={"step": STEP}, crash_retries=9)
    daemon = world.start(**SETTINGS)
    for number, role in enumerate(ENDED, 1):
        daemon = ended(job, daemon, role, number * EACH)
    job.go()
    done = job.finished()
    assert (done.state, done.crash_retries_used, done.error) == (State.SUCCEEDED, 0, None)
    assert list(job.values().items()) == [(n, n) for n in range(COUNT)]
    assert done.partials == COUNT
    assert 1 < max(job.runs().values()) <= 1 + len(ENDED)
    outcomes = [one.outcome for one in world.attempts(job.id)]
    assert outcomes[-1] is Ending.SUCCEEDED
    assert outcomes.count(Ending.LOST) + outcomes.count(Ending.RELEASED) == len(ENDED) - 1


def test_an_item_that_may_run_only_once_never_runs_twice_whatever_is_killed(
    world: World, tmp_path: Path
) -> None:
    job = sweep(world, tmp_path / "once", "passes", 30, crash_retries=0, retries=5, chunk_size=2)
    daemon = world.start(**SETTINGS)
    eventually(job.has_begun(0, 2), 30)
    job.go(0)
    eventually(lambda: job.has_begun(1)() and job.values() == {0: 0})
    os.kill(victim(daemon, "job process"), signal.SIGKILL)
    eventually(lambda: len(job.failures()) == 1)  # that item alone: what comes after it goes on
    assert set(job.failures().values()) == {"crashed"}
    eventually(lambda: len(job.runs()) == 4)
    os.kill(victim(daemon, "worker"), signal.SIGKILL)
    assert daemon.wait() == os.EX_SOFTWARE
    assert sorted([*job.failures(), *job.values()]) == list(range(max(job.failures()) + 1))

    daemon = world.start(**SETTINGS)
    kept = set(job.values())
    job.go(*range(16))
    eventually(job.has_begun(16, 18), 30)
    eventually(lambda: set(range(max(job.failures()) + 1, 16)) <= job.values().keys())
    daemon.signal(signal.SIGTERM)  # to give it back is to run it twice
    assert daemon.wait() == os.EX_OK
    assert job.failures().keys() >= {16, 18}

    daemon = world.start(**SETTINGS)
    eventually(job.has_begun(17, 19), 30)  # which nobody had begun
    daemon.signal(signal.SIGKILL)
    daemon.wait()
    world.start(**SETTINGS)
    job.go()
    done, failures, values = job.finished(), job.failures(), job.values()
    assert set(job.runs().values()) == {1}
    assert Counter(failures.values())["crashed"] == 1
    assert set(failures.values()) == {"crashed", "lost"}
    assert sorted([*failures, *values]) == list(range(30))
    assert values.keys() > kept
    assert (done.state, done.crash_retries_used) == (State.FAILED, 0)
    assert f"{len(failures)} of 30 items failed, the first is item {min(failures)}" in str(done.error)
