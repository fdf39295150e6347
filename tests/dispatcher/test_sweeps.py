"""Map jobs, step by step: who gets a worker, how large a chunk is, how a sweep ends.  See `stepping`."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jobrunner.dispatcher.catalogue import Catalogue
from jobrunner.dispatcher.sweep import CHUNK_SECONDS, SHARES
from jobrunner.dispatcher.sweeps import MOST
from jobrunner.dispatcher.tickets import Code
from jobrunner.errors import StoreUnavailableError
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import Ended, Report
from jobrunner.store import maps, moves, queues
from jobrunner.store import reports as store_reports
from jobrunner.store.engine import Store
from tests.dispatcher.stepping import ObedientPool, Room


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.store.close()


def in_hand(pool: ObedientPool) -> list[tuple[int, int, int] | int]:
    """What the workers have: (job, first item, items) of a chunk, else the job."""
    tickets = [bundle[0] for bundle in pool.bundles]
    return [
        one.job_id if one.chunk is None else (one.job_id, one.chunk.first, one.chunk.item_count)
        for one in tickets
    ]


# -- chunks -----------------------------------------------------------------------------------------


def test_of_an_unknown_task_each_worker_gets_one_item(room: Room) -> None:
    pool = ObedientPool(size=2)
    job_id = room.submit_map(1000)
    room.dispatcher(pool).step(room.now)
    assert in_hand(pool) == [(job_id, 0, 1), (job_id, 1, 1)]
    assert room.state(job_id) is State.RUNNING


def test_a_chunk_holds_as_many_items_as_take_the_time_of_a_chunk(room: Room) -> None:
    pool = ObedientPool(size=2)
    job_id = room.submit_map(1_000_000)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.chunk(pool, pace=0.001)
    dispatcher.step(room.now)
    assert in_hand(pool)[1] == (job_id, 2, round(CHUNK_SECONDS / 0.001))


def test_near_the_end_each_worker_takes_a_share_of_what_is_left(room: Room) -> None:
    pool = ObedientPool(size=2)
    room.submit_map(42)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    sizes = []
    while pool.bundles:
        sizes.append(room.chunk(pool, pace=0.003).item_count)
        dispatcher.step(room.now)
    assert sum(sizes) == 42
    assert sizes[2:4] == [40 // (2 * SHARES), 30 // (2 * SHARES)]
    assert sizes[-1] <= 2


def test_what_a_chunk_had_no_time_for_goes_to_whoever_is_free(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(20, chunk_size=10)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.chunk(pool, run=3)
    dispatcher.step(room.now)
    assert in_hand(pool) == [(job_id, 3, 7)]


def test_what_waits_behind_a_long_item_goes_to_whoever_is_free(room: Room) -> None:
    pool = ObedientPool(size=2)
    job_id = room.submit_map(22)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.chunk(pool, pace=0.001)
    dispatcher.step(room.now)
    room.chunk(pool, pace=0.001)
    dispatcher.step(room.now)
    (_, (long,)) = pool.bundles
    assert in_hand(pool)[1] == (job_id, 7, 5)
    while len(pool.bundles) > 1 or in_hand(pool) != [(job_id, 7, 5)]:
        room.chunk(pool, 0 if pool.bundles[1][0] is long else 1, pace=0.001)
        dispatcher.step(room.now)
    assert dispatcher.step(room.now) <= 0.05
    pool.left_out = [(long, 9)]
    dispatcher.step(room.now)
    assert in_hand(pool) == [(job_id, 7, 5), (job_id, 9, 3)]
    with room.store.read() as connection:
        assert maps.chunks_in_hand(connection, job_id) == [range(7, 9), range(9, 12)]
    pool.left_out = []
    room.chunk(pool, 1, pace=0.001)
    room.chunk(pool, run=2)
    dispatcher.step(room.now)
    assert room.state(job_id) is State.SUCCEEDED


def test_a_chunk_size_that_was_asked_for_is_kept_to(room: Room) -> None:
    pool = ObedientPool(size=2)
    job_id = room.submit_map(25, chunk_size=10)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    assert in_hand(pool) == [(job_id, 0, 10), (job_id, 10, 10)]
    ticket = pool.bundles[0][0]
    assert ticket.chunk is not None
    assert ticket.chunk.seconds is None


@pytest.mark.parametrize(
    ("retries", "fatal"), [(0, ["exception", "unserializable"]), (1, ["unserializable"])]
)
def test_a_chunk_is_told_what_fails_an_item_for_good(room: Room, retries: int, fatal: list[str]) -> None:
    pool = ObedientPool(size=1)
    room.submit_map(10, retries=retries, max_failed=3)
    room.dispatcher(pool).step(room.now)
    told = json.loads(pool.bundles[0][0].line)["chunk"]
    assert (told["may_fail"], told["fatal"]) == (3, fatal)


def test_no_more_chunks_than_may_be_parallel_are_handed_out(room: Room) -> None:
    pool = ObedientPool(size=3)
    room.submit_map(100, max_parallel=2)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    assert len(pool.bundles) == 2


def test_with_the_last_chunk_the_job_has_succeeded(room: Room) -> None:
    pool = ObedientPool(size=2)
    job_id = room.submit_map(2)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.chunk(pool)
    assert room.state(job_id) is State.RUNNING
    room.chunk(pool)
    job = room.job(job_id)
    assert (job.state, job.result, job.partials) == (State.SUCCEEDED, "null", 2)
    dispatcher.step(room.now)
    assert dispatcher.step(room.now) > 0.1  # nothing is left to look after


# -- whose turn it is --------------------------------------------------------------------------------


def test_a_single_job_gets_the_next_worker_that_is_free(room: Room) -> None:
    pool = ObedientPool(size=2)
    sweep = room.submit_map(1000)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    (single,) = room.submit()
    room.chunk(pool)
    dispatcher.step(room.now)
    assert in_hand(pool) == [(sweep, 1, 1), single]


def test_single_jobs_and_a_sweep_take_turns(room: Room) -> None:
    pool = ObedientPool(size=1)
    room.submit_map(1000)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.submit(10)
    kinds = []
    for _ in range(6):
        is_chunk = pool.bundles[0][0].chunk is not None
        kinds.append(is_chunk)
        if is_chunk:
            room.chunk(pool)
        else:
            room.finish(pool, 10.0)
        dispatcher.step(room.now)
    assert kinds == [True, False] * 3


def test_map_jobs_take_turns_and_a_new_one_comes_first(room: Room) -> None:
    pool = ObedientPool(size=1)
    first, second = room.submit_map(1000), room.submit_map(1000)
    dispatcher = room.dispatcher(pool)
    served = []
    for turn in range(6):
        dispatcher.step(room.now)
        served.append(pool.bundles[0][0].job_id)
        if turn == 3:
            third = room.submit_map(1000)
        room.chunk(pool)
    assert served == [first, second, first, second, third, first]


def test_higher_priority_goes_first_whoever_had_the_last_turn(room: Room) -> None:
    pool = ObedientPool(size=1)
    low = room.submit_map(1000, priority=-1)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    normal = room.submit(2)
    lower = room.submit(1, priority=-2)
    served = []
    for _ in range(4):
        ticket = pool.bundles[0][0]
        served.append(ticket.job_id)
        if ticket.chunk is not None:
            room.chunk(pool)
        else:
            room.finish(pool, 10.0)
        dispatcher.step(room.now)
    assert served == [low, *normal, low]
    assert room.state(lower[0]) is State.QUEUED


def test_a_map_job_of_lower_priority_stays_queued_while_one_has_work(room: Room) -> None:
    pool = ObedientPool(size=1)
    high = room.submit_map(1000, priority=1)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    low = room.submit_map(1000)
    room.chunk(pool)
    dispatcher.step(room.now)
    assert in_hand(pool)[0] == (high, 1, round(CHUNK_SECONDS / 2 / 0.01))
    assert room.state(low) is State.QUEUED


def test_many_map_jobs_ahead_do_not_keep_a_single_job_from_its_turn(room: Room) -> None:
    pool = ObedientPool(size=1)
    for _ in range(MOST + 5):
        room.submit_map(10)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    (single,) = room.submit()
    with room.store.read() as connection:
        assert len(moves.held(connection, dispatcher.id)) == MOST
    for _ in range(MOST):  # each is new, and comes first once
        room.chunk(pool)
        dispatcher.step(room.now)
        if in_hand(pool) == [single]:
            return
    raise AssertionError("the single job had no turn")


def test_of_a_paused_queue_no_chunk_is_handed_out(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(1000, queue="night")
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    with room.store.write(durable=False) as connection:
        queues.pause(connection, "night", now=room.now)
    room.chunk(pool)
    dispatcher.step(room.now)
    assert pool.bundles == []
    assert room.state(job_id) is State.RUNNING
    with room.store.write(durable=False) as connection:
        queues.resume(connection, "night")
    dispatcher.step(room.now)
    assert in_hand(pool) == [(job_id, 1, round(CHUNK_SECONDS / 2 / 0.01))]


def test_paused_map_jobs_are_in_nobodys_way(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = room.dispatcher(pool)
    for _ in range(MOST):
        room.submit_map(10, queue="night")
    dispatcher.step(room.now)
    with room.store.write(durable=False) as connection:
        queues.pause(connection, "night", now=room.now)
    other = room.submit_map(10)
    room.chunk(pool)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    assert in_hand(pool)[0] == (other, 0, 1)


def test_however_many_are_in_hand_one_of_higher_priority_comes_in(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = room.dispatcher(pool)
    for _ in range(MOST):
        room.submit_map(10)
    dispatcher.step(room.now)
    equal, urgent = room.submit_map(10), room.submit_map(10, priority=1)
    room.chunk(pool)
    dispatcher.step(room.now)
    assert in_hand(pool)[0] == (urgent, 0, 1)
    assert room.state(equal) is State.QUEUED


def test_an_item_to_be_tried_again_that_may_not_start_keeps_nobody_awake(room: Room) -> None:
    pool = ObedientPool(size=2)
    room.submit_map(10, chunk_size=1, max_parallel=1, retries=3)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.fail_chunk(pool)
    dispatcher.step(room.now)
    room.now += timedelta(seconds=2)
    assert dispatcher.step(room.now) > 0.01


def test_a_map_job_whose_task_is_not_served_any_more_goes_back_to_the_queue(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(10, chunk_size=2)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    dispatcher.serve(Catalogue(Code(2, ()), [], {"m": "it cannot be imported"}), room.now)
    room.chunk(pool)
    dispatcher.step(room.now)
    assert pool.bundles == []
    assert (room.state(job_id), room.job(job_id).partials) == (State.QUEUED, 2)


# -- how it ends --------------------------------------------------------------------------------------


def cancel(room: Room, job_id: int) -> None:
    with room.store.write(durable=True) as connection:
        moves.cancel(connection, job_id, grace_seconds=1.0, now=room.now)


def test_a_cancelled_map_job_is_cancelled_when_its_last_chunk_is_back(room: Room) -> None:
    pool = ObedientPool(size=2)
    job_id = room.submit_map(1000)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    cancel(room, job_id)
    dispatcher.hear_bell()
    dispatcher.step(room.now)
    assert {stop.ending for _, stop in pool.stopped} == {Ending.CANCELLED}
    room.chunk(pool, run=0)
    dispatcher.step(room.now)
    assert room.state(job_id) is State.RUNNING
    room.chunk(pool)
    dispatcher.step(room.now)
    job = room.job(job_id)
    assert (job.state, job.partials) == (State.CANCELLED, 1)
    assert pool.bundles == []


def test_a_map_job_of_which_no_worker_has_anything_is_cancelled_at_once(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(5, chunk_size=2)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    with room.store.write(durable=True) as connection:
        queues.pause(connection, "default", now=room.now)
    room.chunk(pool)
    dispatcher.step(room.now)
    assert pool.bundles == []
    cancel(room, job_id)
    dispatcher.hear_bell()
    dispatcher.step(room.now)
    assert room.state(job_id) is State.CANCELLED


def test_a_drained_map_job_goes_on_where_it_was_and_is_charged_nothing(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(5, chunk_size=2)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.chunk(pool)
    dispatcher.step(room.now)
    dispatcher.drain(room.now, 30.0)
    dispatcher.step(room.now)
    drained = [dispatcher.is_drained]
    room.chunk(pool, run=1)
    dispatcher.step(room.now)
    drained.append(dispatcher.is_drained)
    assert drained == [False, True]
    job = room.job(job_id)
    assert (job.state, job.due_at, job.crash_retries_used, job.partials) == (State.QUEUED, None, 0, 3)
    dispatcher.end(room.now)
    other = ObedientPool(size=1)
    room.dispatcher(other).step(room.now)
    assert in_hand(other) == [(job_id, 3, 2)]


def test_what_is_said_of_a_chunk_is_recorded_before_its_job_ends(room: Room) -> None:
    """The Pool may tell of a chunk's end before the result writer has written what the chunk gave."""
    pool = ObedientPool(size=1)
    job_id = room.submit_map(10, chunk_size=5)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    cancel(room, job_id)
    dispatcher.hear_bell()
    dispatcher.step(room.now)
    ticket = pool.bundles[0][0]
    room.chunk(pool, run=2)
    with room.store.write(durable=False) as connection:  # as if the writer had not come to it yet
        maps.open_chunks(connection, [(job_id, 0, 5)])
    assert dispatcher.step(room.now) <= 0.01
    assert room.state(job_id) is State.RUNNING
    with room.store.write(durable=False) as connection:
        store_reports.record(connection, [Report(job_id, ticket.attempt, room.now, closed=0)])
    dispatcher.step(room.now)
    assert room.state(job_id) is State.CANCELLED


def test_the_reduce_task_runs_when_all_values_are_there(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(3, chunk_size=3, reduce_task="t", reduce_params='{"k": 1}')
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.chunk(pool)
    assert room.state(job_id) is State.RUNNING
    dispatcher.step(room.now)
    (ticket,) = pool.bundles.pop()
    assert (ticket.job_id, ticket.reduces, ticket.params, ticket.chunk) == (job_id, True, '{"k": 1}', None)
    with room.store.write(durable=False) as connection:
        ended = Ended(Ending.SUCCEEDED, result="6")
        store_reports.record(connection, [Report(job_id, ticket.attempt, room.now, ended=ended)])
    assert room.job(job_id).result == "6"


def test_a_reduce_task_does_not_wait_behind_a_long_queue(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(3, chunk_size=3, reduce_task="t", reduce_params="{}")
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.submit(5)
    room.chunk(pool)
    dispatcher.step(room.now)
    assert (in_hand(pool), pool.bundles[0][0].reduces) == ([job_id], True)


def test_a_reduce_task_that_was_lost_runs_again_without_the_items(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(3, chunk_size=3, reduce_task="t", reduce_params="{}")
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.chunk(pool)
    dispatcher.step(room.now)
    (ticket,) = pool.bundles.pop()
    with room.store.write(durable=False) as connection:
        crashed = Ended(Ending.CRASHED, error={"kind": "crashed", "message": "it died"})
        store_reports.record(connection, [Report(job_id, ticket.attempt, room.now, ended=crashed)])
    assert (room.state(job_id), room.job(job_id).crash_retries_used) == (State.QUEUED, 1)
    room.now += timedelta(seconds=5)
    other = ObedientPool(size=1)
    next_one = room.dispatcher(other)
    assert next_one.step(room.now) <= 0.01
    next_one.step(room.now)
    assert [bundle[0].reduces for bundle in other.bundles] == [True]


def test_items_that_may_run_only_once_are_on_the_disk_before_they_begin(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ObedientPool(size=1)
    room.submit_map(3, crash_retries=0)
    dispatcher = room.dispatcher(pool)
    asked = []
    write = Store.write

    def noting(store: Store, *, durable: bool) -> object:
        asked.append((durable, bool(pool.bundles)))
        return write(store, durable=durable)

    monkeypatch.setattr(Store, "write", noting)
    dispatcher.step(room.now)
    assert (True, False) in asked
    assert len(pool.bundles) == 1


def test_a_chunk_that_could_not_be_noted_is_handed_out_later(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(3)
    dispatcher = room.dispatcher(pool)

    def fail(*_: object) -> None:
        raise StoreUnavailableError("no")

    with monkeypatch.context() as patch:
        patch.setattr(maps, "open_chunks", fail)
        with pytest.raises(StoreUnavailableError):
            dispatcher.step(room.now)
    assert pool.bundles == []
    dispatcher.step(room.now)
    assert in_hand(pool) == [(job_id, 0, 1)]
