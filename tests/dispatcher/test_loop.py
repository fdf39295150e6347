"""The loop, step by step: the store is real, the Pool does as the test says, time is given."""

import select
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from jobrunner.dispatcher.bundles import BUNDLE_SECONDS, BUNDLE_TICKETS, LEAST_SECONDS, Packer
from jobrunner.dispatcher.loop import BEAT, QUIET_BEATS, TELL
from jobrunner.dispatcher.losses import Victim
from jobrunner.dispatcher.slots import Stop
from jobrunner.dispatcher.tickets import Code, Ran, Ticket
from jobrunner.errors import LeaseLostError, StoreUnavailableError
from jobrunner.lifecycle import Ending, State
from jobrunner.store import dispatchers, jobs, moves, tables
from jobrunner.store.engine import WAL_ROOM_BYTES
from jobrunner.store.moves import Claimed
from jobrunner.wakeup import WATCHERS, Bell
from tests.dispatcher.stepping import START, ObedientPool, Room
from tests.store.books import audit


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.store.close()


def test_it_claims_as_many_jobs_as_workers_are_free(room: Room) -> None:
    pool = ObedientPool(size=2)
    dispatcher = room.dispatcher(pool)
    ids = room.submit(5)
    dispatcher.step(room.now)
    assert [[one.job_id for one in bundle] for bundle in pool.bundles] == [[ids[0]], [ids[1]]]
    dispatcher.step(room.now)
    assert len(pool.bundles) == 2
    assert [room.state(job_id) for job_id in ids].count(State.RUNNING) == 2


def test_what_has_proved_short_travels_together(room: Room) -> None:
    pool = ObedientPool(size=2)
    dispatcher = room.dispatcher(pool)
    room.submit(40)
    dispatcher.step(room.now)
    for _ in range(2):
        room.finish(pool, seconds=0.001)
    dispatcher.step(room.now)  # looks at one a worker still, and sees that they are short
    for _ in range(2):
        room.finish(pool, seconds=0.001)
    dispatcher.step(room.now)
    assert sorted(map(len, pool.bundles)) == [18, 18]
    assert len({ticket.serial for ticket in pool.in_hand}) == 36


def test_what_was_claimed_when_the_store_failed_is_started_whole_although_it_takes_longer_now(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ObedientPool(size=2)
    dispatcher = room.dispatcher(pool)
    room.submit(4)
    for _ in range(2):
        dispatcher.step(room.now)
        for _ in range(2):
            room.finish(pool, seconds=0.001)
    ids = [*room.submit(crash_retries=0), *room.submit(20)]
    write = room.store.write

    def refusing(*, durable: bool) -> Any:
        if durable:
            raise StoreUnavailableError("the disk is full")
        return write(durable=durable)

    with monkeypatch.context() as outage:
        outage.setattr(room.store, "write", refusing)
        with pytest.raises(StoreUnavailableError):
            dispatcher.step(room.now)
    claimed = [job_id for job_id in ids if room.state(job_id) is State.RUNNING]
    assert len(claimed) > 2, "a bundle was claimed"
    longer = Ticket(99, 1, 1, "t", "{}", None, None, Code(1, ()))
    pool.just_ended.append((longer, Ran(60.0)))
    dispatcher.step(room.now)
    assert sorted(one.job_id for one in pool.in_hand) == claimed


def test_a_queue_whose_count_is_wrong_is_counted_anew_when_a_dispatcher_starts(room: Room) -> None:
    (job_id,) = room.submit()
    with room.store.write(durable=False) as connection:
        connection.execute(sqlalchemy.update(tables.tally).values(jobs=0))
    pool = ObedientPool()
    room.dispatcher(pool).step(room.now)
    assert [one.job_id for one in pool.in_hand] == [job_id]
    with room.store.read() as connection:
        audit(connection)


def test_it_rests_until_the_next_heartbeat_or_until_a_job_is_due(room: Room) -> None:
    dispatcher = room.dispatcher(ObedientPool())
    assert dispatcher.step(room.now) == pytest.approx(BEAT.total_seconds())
    room.submit(run_at=START + timedelta(seconds=0.25))
    assert dispatcher.step(room.now) == pytest.approx(0.25)


def test_a_scheduled_job_starts_when_it_is_due_and_not_before(room: Room) -> None:
    pool = ObedientPool()
    dispatcher = room.dispatcher(pool)
    (job_id,) = room.submit(run_at=START + timedelta(hours=1))
    dispatcher.step(room.now)
    assert room.state(job_id) is State.QUEUED
    room.now += timedelta(hours=1)
    dispatcher.step(room.now)
    assert [ticket.job_id for ticket in pool.in_hand] == [job_id]


def test_a_cancelled_job_is_stopped_with_its_own_grace(room: Room) -> None:
    pool = ObedientPool()
    dispatcher = room.dispatcher(pool)
    (job_id,) = room.submit()
    dispatcher.step(room.now)
    with room.store.write(durable=True) as connection:
        moves.cancel(connection, job_id, grace_seconds=7.0, now=room.now)
    dispatcher.step(room.now)
    assert pool.stopped == []  # nobody has rung the bell
    dispatcher.hear_bell()
    dispatcher.step(room.now)
    assert pool.stopped == [(job_id, Stop(Ending.CANCELLED, 7.0))]


def test_a_drain_starts_nothing_and_releases_what_is_left_at_its_end(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = room.dispatcher(pool)
    first, _ = room.submit(2)
    dispatcher.step(room.now)
    dispatcher.drain(room.now, seconds=30)
    room.now += timedelta(seconds=29)
    dispatcher.step(room.now)
    assert pool.stopped == []
    room.now += timedelta(seconds=1)
    dispatcher.step(room.now)
    assert pool.stopped == [(first, Stop(Ending.RELEASED, 3.0))]
    drained_before = dispatcher.is_drained
    room.finish(pool, 1.0)
    dispatcher.step(room.now)
    assert (drained_before, dispatcher.is_drained) == (False, True)
    assert pool.bundles == []


def test_a_dispatcher_without_heartbeat_for_its_lease_loses_its_jobs(room: Room) -> None:
    elsewhere = dispatchers.Process(host="other", place="another boot", pid=1, started_ticks=1)
    with room.store.write(durable=False) as connection:
        dead = dispatchers.register(connection, elsewhere, workers=1, now=room.now)
    (job_id,) = room.submit()
    with room.store.write(durable=False) as connection:
        moves.claim(connection, dead, tasks=["t"], limit=1, now=room.now)
    pool = ObedientPool()
    dispatcher = room.dispatcher(pool)
    room.now += timedelta(hours=1)  # whatever the clock says: it may have been set
    for _ in range(9):
        dispatcher.step(room.now)
        room.now += BEAT
    assert pool.bundles == []
    for _ in range(2):
        dispatcher.step(room.now)
        room.now += BEAT
    assert [(one.job_id, one.attempt) for one in pool.in_hand] == [(job_id, 2)]


def test_it_ends_when_it_was_given_up_for_dead_itself(room: Room) -> None:
    dispatcher = room.dispatcher(ObedientPool())
    with room.store.write(durable=False) as connection:
        dispatchers.end(connection, dispatcher.id, now=room.now)
    room.now += BEAT
    with pytest.raises(LeaseLostError):
        dispatcher.step(room.now)


def test_a_clock_that_is_set_back_stops_no_heartbeat(room: Room) -> None:
    dispatcher = room.dispatcher(ObedientPool())
    dispatcher.step(room.now)
    room.now -= timedelta(hours=1)
    assert dispatcher.step(room.now) <= BEAT.total_seconds()
    with room.store.read() as connection:
        (entry,) = dispatchers.alive(connection)
    assert entry.heartbeat_at == room.now


def test_when_the_pool_breaks_only_the_dead_workers_job_pays(room: Room) -> None:
    pool = ObedientPool()
    dispatcher = room.dispatcher(pool)
    paying, free = room.submit(2)
    dispatcher.step(room.now)
    victims = [Victim(paying, 1, "worker 0 died while it ran", 0, 5 << 20, 1.5), Victim(free, 1)]
    dispatcher.end(room.now, victims)
    with room.store.read() as connection:
        found = [jobs.get(connection, job_id) for job_id in (paying, free)]
    assert [(job.state, job.crash_retries_used) for job in found] == [(State.QUEUED, 1), (State.QUEUED, 0)]


# -- bundles -------------------------------------------------------------------------------------


def _claimed(number: int, task: str = "t", crash_retries: int = 2) -> list[Claimed]:
    return [Claimed(n, 1, task, "{}", None, None, crash_retries, 1) for n in range(number)]


def test_an_unknown_task_travels_alone() -> None:
    assert [len(bundle) for bundle in Packer(2).pack(_claimed(5), 3)] == [1, 1, 1]


def test_a_bundle_holds_no_more_work_than_it_should() -> None:
    packer = Packer(2)
    packer.learn("t", BUNDLE_SECONDS / 5)
    assert [len(bundle) for bundle in packer.pack(_claimed(100), 2)] == [5, 5]
    packer.learn("t", 10.0)
    assert [len(bundle) for bundle in packer.pack(_claimed(100), 2)] == [1, 1]


def test_a_few_short_jobs_are_shared_out_over_the_free_workers() -> None:
    packer = Packer(2)
    packer.learn("t", 0.0)
    assert [len(bundle) for bundle in packer.pack(_claimed(6), 4)] == [2, 2, 1, 1]
    assert [len(bundle) for bundle in packer.pack(_claimed(2000), 2)] == [BUNDLE_TICKETS] * 2


def test_the_last_short_jobs_are_shared_out_over_all_workers() -> None:
    packer = Packer(2)
    packer.learn("t", BUNDLE_SECONDS / 16.5)
    assert packer.limit(1) == 1, "nobody knows yet how many fit"
    assert [len(bundle) for bundle in packer.pack(_claimed(1), 1)] == [1]
    assert packer.limit(2) == 34
    assert [len(bundle) for bundle in packer.pack(_claimed(34), 2)] == [16, 16]
    assert [len(bundle) for bundle in packer.pack(_claimed(30), 1, 1)] == [7, 7]
    few = [*_claimed(12), *_claimed(1, "unknown")]
    assert [len(bundle) for bundle in packer.pack(few, 1)] == [int(16.5 * LEAST_SECONDS / BUNDLE_SECONDS)]


def test_where_there_is_one_worker_nobody_waits_for_two_whole_bundles() -> None:
    packer = Packer(1)
    packer.learn("t", BUNDLE_SECONDS / 8)
    assert [len(bundle) for bundle in packer.pack(_claimed(100), 1, 1)] == [4, 4]


def test_a_job_that_may_run_only_once_is_not_claimed_before_it_can_start() -> None:
    packer = Packer(2)
    packer.learn("t", 0.0)
    assert [len(bundle) for bundle in packer.pack(_claimed(4, crash_retries=0), 2)] == [1, 1]


def test_one_long_run_makes_a_task_long_at_once_and_short_ones_make_it_short_slowly() -> None:
    packer = Packer(2)
    packer.learn("t", 0.001)
    packer.learn("t", 1.0)
    for _ in range(10):
        assert [len(bundle) for bundle in packer.pack(_claimed(4), 2)] == [1, 1]
        packer.learn("t", 0.001)
    for _ in range(30):
        packer.learn("t", 0.001)
    assert [len(bundle) for bundle in packer.pack(_claimed(4), 2)] == [2, 2]


# -- samples -------------------------------------------------------------------------------------------


def samples(room: Room) -> list[tuple[float, int, int | None]]:
    query = sqlalchemy.select(tables.throughput).order_by(tables.throughput.c.at)
    with room.store.read() as connection:
        return [((row.at - START).total_seconds(), row.done, row.queued) for row in connection.execute(query)]


# -- what is not urgent ---------------------------------------------------------------------------


@pytest.fixture
def bell(room: Room) -> Iterator[Bell]:
    """The bell of somebody who watches."""
    made = Bell(room.settings.data / WATCHERS, "1.sock")
    yield made
    made.close()


def is_rung(bell: Bell) -> bool:
    rung = bool(select.select([bell], [], [], 0)[0])
    bell.clear()
    return rung


def test_those_who_watch_are_told_of_a_claim_soon_but_not_while_it_is_begun(room: Room, bell: Bell) -> None:
    dispatcher = room.dispatcher(ObedientPool())
    room.submit()
    assert dispatcher.step(room.now) == pytest.approx(TELL.total_seconds())
    assert not is_rung(bell)
    room.now += TELL
    assert dispatcher.step(room.now) > TELL.total_seconds()
    assert is_rung(bell)
    room.submit()
    dispatcher.step(room.now)
    room.now += TELL
    dispatcher.step(room.now)
    assert is_rung(bell)
    room.now += TELL
    dispatcher.step(room.now)
    assert not is_rung(bell)


def test_of_a_job_that_has_ended_by_then_the_result_writer_tells(room: Room, bell: Bell) -> None:
    pool = ObedientPool()
    dispatcher = room.dispatcher(pool)
    room.submit()
    dispatcher.step(room.now)
    room.finish(pool, seconds=0.001)
    dispatcher.step(room.now)
    room.now += TELL
    dispatcher.step(room.now)
    assert not is_rung(bell)


def test_room_in_the_wal_is_made_when_nothing_was_to_do_for_a_while(room: Room) -> None:
    pool = ObedientPool()
    dispatcher = room.dispatcher(pool)

    def beat() -> int:
        room.now += BEAT
        dispatcher.step(room.now)
        return room.store.wal_bytes()

    room.submit()
    dispatcher.step(room.now)
    assert max(beat() for _ in range(QUIET_BEATS + 2)) < WAL_ROOM_BYTES / 2, "a job runs"
    room.finish(pool, seconds=1.0)
    assert max(beat() for _ in range(QUIET_BEATS - 1)) < WAL_ROOM_BYTES / 2
    assert beat() > 0.9 * WAL_ROOM_BYTES


def test_a_sample_is_taken_when_something_was_done_or_the_queue_is_another(room: Room) -> None:
    pool = ObedientPool(size=1)
    dispatcher = room.dispatcher(pool)

    def beat() -> None:
        room.now += BEAT
        dispatcher.step(room.now)

    beat()
    assert samples(room) == []
    room.submit(3)
    beat()
    beat()
    assert samples(room) == [(2.0, 0, 3), (3.0, 0, 2)]
    pool.slots[0].done = 1
    beat()
    beat()
    assert samples(room)[2:] == [(4.0, 1, 2)]


def test_what_was_counted_while_the_store_was_away_is_in_the_next_sample(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ObedientPool(size=1)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    pool.slots[0].done = 5

    def refusing(*, durable: bool) -> Any:
        raise StoreUnavailableError(f"the disk is full, durable or not: {durable}")

    room.now += BEAT
    with monkeypatch.context() as outage:
        outage.setattr(room.store, "write", refusing)
        with pytest.raises(StoreUnavailableError):
            dispatcher.step(room.now)
    room.now += BEAT
    dispatcher.step(room.now)
    assert samples(room) == [(2.0, 5, 0)]
