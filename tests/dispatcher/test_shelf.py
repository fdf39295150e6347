"""What is claimed ahead of the workers, step by step: who gets it, and what goes back.  See `stepping`."""

import contextlib
import select
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobrunner.dispatcher.catalogue import Catalogue
from jobrunner.dispatcher.loop import Dispatcher
from jobrunner.dispatcher.shelf import SOON, WORKERS_PER_PLACE, Laid, Shelf
from jobrunner.dispatcher.tickets import Code, Ticket
from jobrunner.errors import StoreUnavailableError
from jobrunner.lifecycle import State
from jobrunner.store import attempts, jobs, maps, moves, queues
from jobrunner.wakeup import WATCHERS, Bell
from tests.dispatcher.stepping import START, ObedientPool, Room
from tests.store.books import audit

MOMENT = timedelta(seconds=0.01)
SHORT = 0.12  # seconds: two are too much for one bundle


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    with made.store.read() as connection:
        audit(connection)
    made.store.close()


def has_learnt(room: Room, pool: ObedientPool, *tasks: str, seconds: float = SHORT) -> Dispatcher:
    """A dispatcher whose tasks take so long."""
    dispatcher = room.dispatcher(pool)
    serve(dispatcher, room, "t", "long")
    for task in tasks or ("t",):
        room.submit(task=task)
        dispatcher.step(room.now)
        room.finish(pool, seconds)
        dispatcher.step(room.now)
    return dispatcher


def serve(dispatcher: Dispatcher, room: Room, *tasks: str, generation: int = 1) -> None:
    about = [{"name": name, "doc": "", "params": {}, "options": {}} for name in tasks]
    dispatcher.serve(Catalogue(Code(generation, ()), about, {}), room.now)


def in_hand(pool: ObedientPool) -> list[int]:
    return [ticket.job_id for ticket in pool.in_hand]


def ready(room: Room, dispatcher: Dispatcher, pool: ObedientPool) -> list[int]:
    """The single jobs that are claimed and that no worker has."""
    with room.store.read() as connection:
        held = [job_id for job_id, _ in moves.held(connection, dispatcher.id)]
        jobs_held = [job_id for job_id in held if jobs.get(connection, job_id).item_count is None]
    return sorted(set(jobs_held) - set(in_hand(pool)))


def chunks(room: Room, job_id: int) -> list[range]:
    with room.store.read() as connection:
        return sorted(maps.chunks_in_hand(connection, job_id), key=lambda one: one.start)


# -- what is laid ready ------------------------------------------------------------------------------


def test_with_short_jobs_the_next_lies_ready_while_all_work(room: Room) -> None:
    pool = ObedientPool(size=2)
    dispatcher = has_learnt(room, pool)
    ids = room.submit(5)
    assert dispatcher.step(room.now) == 0.0, "those who are free come first"
    assert in_hand(pool) == ids[:2]
    dispatcher.step(room.now)
    assert ready(room, dispatcher, pool) == ids[2:3]
    room.finish(pool, SHORT)
    dispatcher.step(room.now)
    assert in_hand(pool) == ids[1:3]
    assert ready(room, dispatcher, pool) == ids[3:4]


def test_nothing_is_claimed_ahead_of_workers_that_have_something_long(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    room.submit(task="long")
    dispatcher.step(room.now)
    (waiting,) = room.submit()
    dispatcher.step(room.now)
    assert room.state(waiting) is State.QUEUED


def test_a_map_job_is_claimed_when_a_worker_is_free(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    room.submit()
    dispatcher.step(room.now)
    waiting = room.submit_map(10)
    dispatcher.step(room.now)
    assert room.state(waiting) is State.QUEUED
    room.finish(pool, SHORT)
    dispatcher.step(room.now)
    assert room.state(waiting) is State.RUNNING


def test_of_many_workers_a_share_may_be_done_at_the_same_time(room: Room) -> None:
    pool = ObedientPool(size=2 * WORKERS_PER_PLACE)
    dispatcher = has_learnt(room, pool)
    ids = room.submit(pool.size + 5)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    assert ready(room, dispatcher, pool) == ids[pool.size : pool.size + 2]


def test_what_lies_ready_starts_although_the_store_cannot_be_written(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    ids = room.submit(5)
    for _ in range(3):
        dispatcher.step(room.now)
    room.finish(pool, SHORT)
    dispatcher.step(room.now)
    room.finish(pool, SHORT)

    def refusing(*, durable: bool) -> Any:
        raise StoreUnavailableError("the disk is full")

    with monkeypatch.context() as outage:
        outage.setattr(room.store, "write", refusing)
        with pytest.raises(StoreUnavailableError):
            dispatcher.step(room.now)
    assert in_hand(pool) == ids[2:3]


@pytest.mark.parametrize(
    ("seconds", "more"), [(10.0, {}), (SHORT, {"crash_retries": 0}), (SHORT, {"task": "long"})]
)
def test_what_is_long_unknown_or_may_run_only_once_waits_in_the_queue(
    room: Room, seconds: float, more: dict[str, Any]
) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    if seconds > SHORT:
        room.submit()
        dispatcher.step(room.now)
        room.finish(pool, seconds)
        dispatcher.step(room.now)
    room.submit()
    dispatcher.step(room.now)
    (waiting,) = room.submit(**more)
    dispatcher.step(room.now)
    assert room.state(waiting) is State.QUEUED


def test_a_job_that_may_run_only_once_keeps_its_turn(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    first, once, last = [*room.submit(), *room.submit(crash_retries=0), *room.submit()]
    served = []
    for _ in range(3):
        dispatcher.step(room.now)
        dispatcher.step(room.now)
        served += in_hand(pool)
        room.finish(pool, SHORT)
    assert served == [first, once, last]


def test_with_short_items_the_next_chunk_lies_ready(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(1000)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    assert chunks(room, job_id) == [range(1)], "nobody knows yet how long an item takes"
    room.chunk(pool)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    first, second = chunks(room, job_id)
    assert first.stop == second.start
    room.chunk(pool)
    dispatcher.step(room.now)
    assert pool.in_hand[0].chunk is not None
    assert pool.in_hand[0].chunk.first == second.start


@pytest.mark.parametrize(
    ("pace", "more"), [(10.0, {}), (0.01, {"crash_retries": 0}), (0.01, {"chunk_size": 100})]
)
def test_no_chunk_lies_ready_that_is_long_or_may_run_only_once(
    room: Room, pace: float, more: dict[str, Any]
) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(1000, **more)
    dispatcher = room.dispatcher(pool)
    for _ in range(2):
        dispatcher.step(room.now)
        assert len(chunks(room, job_id)) == 1
        room.chunk(pool, pace=pace)
    for _ in range(2):
        dispatcher.step(room.now)
        assert len(chunks(room, job_id)) == 1


def test_no_more_than_may_be_parallel_lie_ready_or_are_in_hand(room: Room) -> None:
    pool = ObedientPool(size=2)
    job_id = room.submit_map(1000, max_parallel=2)
    dispatcher = room.dispatcher(pool)
    for _ in range(5):
        dispatcher.step(room.now)
        assert len(chunks(room, job_id)) == 2
        room.chunk(pool)


# -- whose turn it is ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2])
def test_a_long_job_gets_a_worker_beside_a_sweep_of_short_items(room: Room, size: int) -> None:
    pool = ObedientPool(size=size)
    room.submit_map(100_000)
    dispatcher = room.dispatcher(pool)
    for _ in range(4):
        dispatcher.step(room.now)
        room.chunk(pool)
    dispatcher.step(room.now)
    (single,) = room.submit(task="t", crash_retries=0)
    for _ in range(2):
        room.chunk(pool)
        dispatcher.step(room.now)
        if single in in_hand(pool):
            break
    assert single in in_hand(pool), "it had no turn"


def test_a_sweep_of_long_items_gets_its_turn_beside_one_of_short_ones(room: Room) -> None:
    pool = ObedientPool(size=1)
    short, long = room.submit_map(100_000), room.submit_map(100_000)
    dispatcher = room.dispatcher(pool)
    served = []
    for _ in range(9):
        for _ in range(2):
            dispatcher.step(room.now)
        (ticket,) = pool.in_hand
        served.append(ticket.job_id)
        room.chunk(pool, pace=0.001 if ticket.job_id == short else 10.0)
    assert served.count(long) in (4, 5)


def test_beside_a_sweep_of_short_items_none_lies_ready_that_may_run_only_once(room: Room) -> None:
    pool = ObedientPool(size=1)
    room.submit_map(100_000)
    once = room.submit_map(100_000, crash_retries=0)
    dispatcher = room.dispatcher(pool)
    for _ in range(6):
        for _ in range(2):
            dispatcher.step(room.now)
        (ticket,) = pool.in_hand
        assert len(chunks(room, once)) == (ticket.job_id == once)
        room.chunk(pool)


@pytest.mark.parametrize("is_beside_jobs", [True, False])
def test_a_map_job_of_higher_priority_has_the_next_worker(room: Room, is_beside_jobs: bool) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    if is_beside_jobs:
        room.submit(200)
    else:
        room.submit_map(100_000)
    for _ in range(5):
        for _ in range(2):
            dispatcher.step(room.now)
        work_off(room, pool)
    for _ in range(2):
        dispatcher.step(room.now)
    urgent = room.submit_map(10, priority=9)
    for _ in range(4):  # what is in hand, and two that lie ready
        dispatcher.step(room.now)
        if urgent in in_hand(pool):
            break
        work_off(room, pool)
    assert urgent in in_hand(pool), "it had no turn"


def work_off(room: Room, pool: ObedientPool) -> None:
    if pool.in_hand[0].chunk is None:
        room.finish(pool, SHORT)
    else:
        room.chunk(pool)


def test_when_what_kept_its_turn_is_gone_more_lies_ready_again(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    room.submit()
    dispatcher.step(room.now)
    (once,) = room.submit(crash_retries=0)
    dispatcher.step(room.now)
    with room.store.write(durable=False) as connection:
        moves.cancel(connection, once, grace_seconds=1.0, now=room.now)
    room.finish(pool, SHORT)
    dispatcher.step(room.now)
    ids = room.submit(2)
    for _ in range(2):
        dispatcher.step(room.now)
    assert in_hand(pool) == ids[:1]
    assert ready(room, dispatcher, pool) == ids[1:]


# -- what goes back ------------------------------------------------------------------------------------


def test_if_nobody_is_done_soon_what_lies_ready_goes_back_to_the_queue_uncharged(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    ids = room.submit(2)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    room.now += SOON - MOMENT
    rest = dispatcher.step(room.now)
    assert rest <= MOMENT.total_seconds(), "it wakes up in time"
    assert ready(room, dispatcher, pool) == ids[1:]
    room.now += MOMENT
    dispatcher.step(room.now)
    back = room.job(ids[1])
    assert (back.state, back.crash_retries_used, back.retries_used) == (State.QUEUED, 0, 0)
    with room.store.read() as connection:
        (run,) = attempts.of_job(connection, ids[1])
    assert run.outcome == "released"
    dispatcher.step(room.now)
    assert room.state(ids[1]) is State.QUEUED, "it is not claimed ahead again"


def test_a_clock_that_is_set_back_keeps_nothing_ready(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    ids = room.submit(2)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    assert ready(room, dispatcher, pool) == ids[1:]
    room.now -= timedelta(hours=1)
    dispatcher.step(room.now)
    assert room.state(ids[1]) is State.QUEUED


def test_a_chunk_that_lay_ready_may_print_what_is_left_when_it_begins(room: Room) -> None:
    pool = ObedientPool(size=1)
    room.submit_map(1000)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    room.chunk(pool)
    for _ in range(2):
        dispatcher.step(room.now)
    (printing,) = pool.in_hand
    assert printing.chunk is not None
    room.chunk(pool, log_bytes=1000)
    dispatcher.step(room.now)
    (ticket,) = pool.in_hand
    assert ticket.chunk is not None
    assert ticket.chunk.log_bytes == printing.chunk.log_bytes - 1000


def test_what_lies_ready_for_a_worker_that_was_free_waits_for_the_next() -> None:
    ticket = Ticket(1, 1, 1, "t", "{}", None, None, Code(1, ()))
    shelf = Shelf(1)
    shelf.lay(Laid([ticket], ["default"], None, is_short=False))
    assert shelf.goes_back_at() is None
    assert shelf.unwanted(START, 0, (), lambda _: False) == []
    assert shelf.unwanted(START, 0, (), lambda _: True) == [ticket]


def test_a_chunk_stays_for_nobody_else_could_run_it(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(1000)
    dispatcher = room.dispatcher(pool)
    for _ in range(2):
        dispatcher.step(room.now)
        room.chunk(pool)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    before = chunks(room, job_id)
    room.now += 2 * SOON
    dispatcher.step(room.now)
    assert chunks(room, job_id) == before
    room.chunk(pool)
    dispatcher.step(room.now)
    assert pool.in_hand[0].chunk is not None
    assert pool.in_hand[0].chunk.first == before[1].start


def test_a_job_that_lies_ready_is_cancelled_at_once(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    ids = room.submit(3)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    with room.store.write(durable=False) as connection:
        assert moves.cancel(connection, ids[1], grace_seconds=3.0, now=room.now) is State.RUNNING
    dispatcher.hear_bell()
    dispatcher.step(room.now)
    assert room.state(ids[1]) is State.CANCELLED
    room.finish(pool, SHORT)
    dispatcher.step(room.now)
    assert in_hand(pool) == ids[2:]


def test_a_cancelled_map_job_does_not_wait_for_a_chunk_that_lies_ready(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(1000)
    dispatcher = room.dispatcher(pool)
    for _ in range(2):
        dispatcher.step(room.now)
        room.chunk(pool)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    assert len(chunks(room, job_id)) == 2
    with room.store.write(durable=False) as connection:
        moves.cancel(connection, job_id, grace_seconds=3.0, now=room.now)
    dispatcher.hear_bell()
    dispatcher.step(room.now)
    assert len(chunks(room, job_id)) == 1
    room.chunk(pool, run=0)
    dispatcher.step(room.now)
    assert room.state(job_id) is State.CANCELLED


def test_a_map_job_that_failed_too_often_ends_with_the_chunk_that_lies_ready(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(1000, max_failed=0, chunk_size=1, retries=0)
    dispatcher = room.dispatcher(pool)
    for _ in range(2):
        dispatcher.step(room.now)
        room.chunk(pool)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    assert len(chunks(room, job_id)) == 2
    room.fail_chunk(pool, is_final=True)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    assert room.state(job_id) is State.FAILED
    assert not pool.in_hand


def test_a_chunk_that_lay_ready_knows_how_many_have_failed_meanwhile(room: Room) -> None:
    pool = ObedientPool(size=1)
    room.submit_map(1000, max_failed=2, chunk_size=1)
    dispatcher = room.dispatcher(pool)
    for _ in range(2):
        dispatcher.step(room.now)
        room.chunk(pool)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    told = []
    for _ in range(2):
        told += [ticket.chunk.may_fail for ticket in pool.in_hand if ticket.chunk is not None]
        room.fail_chunk(pool, is_final=True)
        dispatcher.step(room.now)
    assert told == [2, 1]


def pause(room: Room, dispatcher: Dispatcher) -> None:
    with room.store.write(durable=False) as connection:
        queues.pause(connection, "default", now=room.now)
    dispatcher.hear_bell()
    dispatcher.step(room.now)


def test_of_a_queue_that_is_paused_no_job_that_lies_ready_starts(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    ids = room.submit(2)
    for _ in range(2):
        dispatcher.step(room.now)
    assert ready(room, dispatcher, pool) == ids[1:]
    pause(room, dispatcher)
    assert room.state(ids[1]) is State.QUEUED
    room.finish(pool, SHORT)
    dispatcher.step(room.now)
    assert not pool.in_hand


def test_of_a_queue_that_is_paused_no_chunk_that_lies_ready_starts_before_it_goes_on(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(1000)
    dispatcher = room.dispatcher(pool)
    for _ in range(2):
        dispatcher.step(room.now)
        room.chunk(pool)
    for _ in range(2):
        dispatcher.step(room.now)
    first, second = chunks(room, job_id)
    pause(room, dispatcher)
    assert chunks(room, job_id) == [first]
    room.chunk(pool)
    dispatcher.step(room.now)
    assert not pool.in_hand
    with room.store.write(durable=False) as connection:
        queues.resume(connection, "default")
    dispatcher.step(room.now)
    assert pool.in_hand[0].chunk is not None
    assert pool.in_hand[0].chunk.first == second.start


def test_who_watches_is_told_at_once_of_what_goes_back(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    ids = room.submit(2)
    for _ in range(2):
        dispatcher.step(room.now)
    with room.store.write(durable=False) as connection:
        moves.cancel(connection, ids[1], grace_seconds=3.0, now=room.now)
    with contextlib.closing(Bell(room.settings.data / WATCHERS, "test.sock")) as bell:
        dispatcher.hear_bell()
        dispatcher.step(room.now)
        assert select.select([bell.fileno()], [], [], 0)[0]


def test_a_drain_gives_back_what_lies_ready_at_once(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    ids = room.submit(2)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    dispatcher.drain(room.now, 60)
    room.finish(pool, SHORT)
    assert not dispatcher.is_drained
    dispatcher.step(room.now)
    assert room.state(ids[1]) is State.QUEUED
    assert dispatcher.is_drained


def test_after_a_reload_what_lies_ready_runs_the_new_code_or_goes_back(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool, "t", "long", seconds=0.02)
    room.submit()
    dispatcher.step(room.now)
    kept, gone = [*room.submit(), *room.submit(task="long")]
    dispatcher.step(room.now)
    assert ready(room, dispatcher, pool) == [kept, gone]
    serve(dispatcher, room, "t", generation=2)
    dispatcher.step(room.now)
    assert room.state(gone) is State.QUEUED
    room.finish(pool, SHORT)
    dispatcher.step(room.now)
    assert [(one.job_id, one.code.generation) for one in pool.in_hand] == [(kept, 2)]


def test_what_lies_ready_when_the_dispatcher_ends_is_charged_nothing(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = has_learnt(room, pool)
    ids = room.submit(2)
    dispatcher.step(room.now)
    dispatcher.step(room.now)
    assert ready(room, dispatcher, pool) == ids[1:]
    pool.bundles.clear()
    dispatcher.end(room.now, [])
    back = room.job(ids[1])
    assert (back.state, back.crash_retries_used) == (State.QUEUED, 0)
