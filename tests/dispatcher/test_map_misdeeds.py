"""What items of a map job do that they must not, and what people do to it while it runs: one dispatcher sees it all."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobrunner.clock import utc_now
from jobrunner.dispatcher.joblog import TAIL_BYTES
from jobrunner.lifecycle import Ending, State
from jobrunner.store import moves, queues
from jobrunner.store.jobs import NewMap
from jobrunner.wakeup import wake
from tests.dispatcher.running import World
from tests.dispatcher.sweeps import Sweep, sweep
from tests.waiting import eventually


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("world") / "data")
    made.start(tasks="map_faults", max_log_bytes=10_000, grace_seconds=5)
    yield made
    for daemon in made.started:
        daemon.kill_all()
    made.store.close()


def again(job: Sweep, *, only_failed: bool) -> None:
    with job.world.store.write(durable=True) as connection:
        moves.requeue(connection, job.id, only_failed=only_failed, now=utc_now())
    wake(job.world.data / "dispatchers")


# -- what an item does alone --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("exits", "exception", "7"),
        ("is too large", "unserializable", "max_partial_bytes"),
        ("is no JSON", "unserializable", "the first is item 3: unserializable: the value is"),
        ("writes garbage", "crashed", "garbage"),
        ("dies", "crashed", "SIGKILL"),
    ],
)
def test_an_item_that_does_what_it_must_not_fails_alone(
    world: World, tmp_path: Path, how: str, kind: str, message: str
) -> None:
    job = sweep(
        world, tmp_path, "misbehaves", 8, params={"how": how}, chunk_size=8, retries=0, crash_retries=0
    )
    done = job.finished()
    assert (done.state, job.failures()) == (State.FAILED, {3: kind})
    assert message in str(done.error)
    assert job.values() == {n: n for n in range(8) if n != 3}
    assert set(job.runs().values()) == {1}


@pytest.mark.parametrize(("how", "runs"), [("forks", 2), ("forks and raises", 2)])
def test_a_child_that_an_item_has_forked_does_not_speak_for_it(
    world: World, tmp_path: Path, how: str, runs: int
) -> None:
    job = sweep(world, tmp_path, "misbehaves", 8, params={"how": how}, chunk_size=8)
    done = job.finished()
    assert done.state is State.SUCCEEDED
    assert job.values().keys() == set(range(8))
    assert set(job.runs().values()) == {1}  # the child has gone on with nothing


def test_an_item_that_dies_is_tried_again_as_often_as_its_budget_says(world: World, tmp_path: Path) -> None:
    job = sweep(world, tmp_path, "misbehaves", 6, params={"how": "dies"}, crash_retries=1)
    done = job.finished()
    assert (done.state, job.failures()) == (State.FAILED, {3: "crashed"})
    assert job.runs() == {n: 1 + (n == 3) for n in range(6)}
    assert (done.attempt, done.crash_retries_used) == (1, 0)


def test_what_items_print_is_kept_up_to_a_limit_of_all(world: World, tmp_path: Path) -> None:
    job = sweep(world, tmp_path, "prints", 200)
    assert job.finished().state is State.SUCCEEDED
    assert len(job.values()) == 200
    log = world.log(job.id)
    assert "item 0 " in log
    # Of two workers each may have a chunk that prints all of it, and beside that the tail of what was cut, with a note.
    assert len(log) < 2 * (10_000 + TAIL_BYTES + 200)


# -- which items --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ([{"n": 5}, {"n": 7, "step": 2}, {"n": 5}], [5, 7, 5]),
        ({"step": [7, 9], "n": {"range": [1, 6, 2]}}, [1, 3, 5] * 2),
    ],
)
def test_a_list_and_a_product_have_their_values_in_order(
    world: World, tmp_path: Path, spec: Any, values: list[int]
) -> None:
    (tmp_path / "go").touch()
    (job_id,) = world.submit(
        "map_faults.passes", params={"directory": str(tmp_path)}, map=NewMap(json.dumps(spec), len(values))
    )
    job = Sweep(world, job_id, tmp_path)
    assert job.finished().state is State.SUCCEEDED
    assert list(job.values().values()) == values


# -- what people do -----------------------------------------------------------------------------


def test_a_job_that_is_cancelled_keeps_what_it_has_and_goes_on_there_if_asked(
    world: World, tmp_path: Path
) -> None:
    job = sweep(world, tmp_path, "passes", 30, params={"step": 10}, chunk_size=10, max_parallel=1)
    job.go(0)
    eventually(job.has_begun(10))
    eventually(lambda: len(job.values()) == 10)
    assert job.in_hand() == set(range(10, 20))  # one chunk, though two workers are free
    world.cancel(job.id, grace_seconds=5)
    assert job.finished().state is State.CANCELLED
    assert (tmp_path / "10.tidied").exists()
    assert len(job.values()) == 10
    job.go()
    again(job, only_failed=True)
    done = job.finished()
    assert (done.state, done.attempt) == (State.SUCCEEDED, 2)
    assert job.values() == {n: n for n in range(30)}
    assert job.runs() == {n: 1 + (n == 10) for n in range(30)}
    assert done.partials == 30


def test_a_failed_job_runs_again_its_failed_items_or_all(world: World, tmp_path: Path) -> None:
    job = sweep(world, tmp_path, "fails_unless", 9, max_failed=5)
    failed = {n for n in range(9) if n % 3 == 0}
    for only_failed, runs in ((True, 2), (False, 3)):
        done = job.finished()
        assert (done.state, set(job.failures())) == (State.FAILED, failed)
        again(job, only_failed=only_failed)
        done = job.finished()
        assert {job.runs()[n] for n in failed} == {runs}
        assert {job.runs()[n] for n in range(9) if n not in failed} == {1 if only_failed else 2}
    (tmp_path / "fixed").touch()
    again(job, only_failed=True)
    done = job.finished()
    assert (done.state, done.attempt, done.error) == (State.SUCCEEDED, 4, None)
    assert job.values() == {n: n for n in range(9)}
    assert done.partials == 6 + 6 + 3  # what was recorded before the whole retry is history


def test_a_job_ends_early_when_more_items_have_failed_than_may(world: World, tmp_path: Path) -> None:
    job = sweep(world, tmp_path, "fails_unless", 3000, max_failed=4, chunk_size=10)
    done = job.finished()
    assert done.state is State.FAILED
    assert "(max_failed is 4, " in str(done.error)
    assert len(job.runs()) < 300
    assert len(job.runs()) == len(job.values()) + len(job.failures())
    again(job, only_failed=True)
    assert job.finished().attempt == 2
    assert max(job.runs().values()) <= 2


def test_a_chunk_begins_nothing_more_once_more_of_its_items_have_failed_than_may(
    world: World, tmp_path: Path
) -> None:
    job = sweep(world, tmp_path, "fails_unless", 2000, max_failed=4, chunk_size=1000, max_parallel=1)
    done = job.finished()
    assert done.state is State.FAILED
    assert "5 of 2000 items failed (max_failed is 4, 1987 did not run)" in str(done.error)
    assert set(job.failures()) == {0, 3, 6, 9, 12}
    assert set(job.runs()) == set(range(13))
    (tmp_path / "fixed").touch()
    again(job, only_failed=True)
    assert job.finished().state is State.SUCCEEDED
    assert job.runs() == {n: 1 + (n in {0, 3, 6, 9, 12}) for n in range(2000)}


def test_what_failed_in_chunks_before_counts_too(world: World, tmp_path: Path) -> None:
    job = sweep(world, tmp_path, "fails_unless", 1000, max_failed=5, chunk_size=10, max_parallel=1)
    assert job.finished().state is State.FAILED
    assert set(job.failures()) == {0, 3, 6, 9, 12, 15}  # four of the first chunk, two of the second
    assert set(job.runs()) == set(range(16))


def test_a_paused_queue_hands_out_no_chunk_until_it_is_resumed(world: World, tmp_path: Path) -> None:
    job = sweep(world, tmp_path, "passes", 12, params={"step": 3}, chunk_size=3, max_parallel=1, queue="slow")
    eventually(job.has_begun(0))
    with world.store.write(durable=True) as connection:
        queues.pause(connection, "slow", now=utc_now())
    job.go()
    eventually(lambda: len(job.values()) == 3)  # the chunk in hand comes to its end
    # What else is ready goes on meanwhile, and runs when the chunk's turn would be.
    other = sweep(world, tmp_path / "other", "passes", 9, params={"step": 100, "directory": str(tmp_path)})
    assert other.finished().state is State.SUCCEEDED
    assert len(job.values()) == 3
    with world.store.write(durable=True) as connection:
        queues.resume(connection, "slow")
    wake(world.data / "dispatchers")
    assert job.finished().state is State.SUCCEEDED
    assert set(job.runs().values()) == {1, 2}  # the other ran in the same folder


def test_a_reduce_task_that_is_killed_runs_again_and_no_item_does(world: World, tmp_path: Path) -> None:
    more = {"reduce_task": "map_faults.total", "reduce_params": json.dumps({"directory": str(tmp_path)})}
    job = sweep(world, tmp_path, "passes", 500, params={"step": 1000}, crash_retries=1, **more)
    job.go()
    (pid,) = eventually(job.reduces)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(job.reduces()) == 2)
    (tmp_path / "reduce").touch()
    done = job.finished()
    assert (done.state, done.result) == (State.SUCCEEDED, str(sum(range(500))))
    assert (done.attempt, done.crash_retries_used) == (2, 1)
    assert [one.outcome for one in world.attempts(job.id)] == [Ending.CRASHED, Ending.SUCCEEDED]
    assert set(job.runs().values()) == {1}
