"""What becomes of a map job that is lost between two of its steps, one by one.  See `stepping`."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from jobrunner.dispatcher import losses
from jobrunner.dispatcher.losses import Victim
from jobrunner.dispatcher.tickets import ItemRun, Ran
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import ItemFailed, Report, Values, error
from jobrunner.store import maps
from jobrunner.store import reports as store_reports
from jobrunner.store.tables import item
from tests.dispatcher.stepping import ObedientPool, Room
from tests.store.books import audit


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    with made.store.read() as connection:
        audit(connection)
    made.store.close()


def report(room: Room, *said: Report) -> None:
    with room.store.write(durable=False) as connection:
        store_reports.record(connection, said)


def lost(room: Room, job_id: int, *, blame: str | None = "it died") -> None:
    report(room, *losses.reports([Victim(job_id, 1, blame)], 2, room.now))


@pytest.mark.parametrize("crash_retries", [0, 2])
@pytest.mark.parametrize("blame", ["it died", None])
def test_a_job_that_is_lost_with_all_its_items_recorded_has_succeeded(
    room: Room, crash_retries: int, blame: str | None
) -> None:
    """The last word on its last chunk is on its way."""
    pool = ObedientPool(size=1)
    job_id = room.submit_map(1, crash_retries=crash_retries)
    room.dispatcher(pool).step(room.now)
    report(room, Report(job_id, 1, room.now, items=(Values(0, 1, "[0]"),)))
    assert room.state(job_id) is State.RUNNING
    lost(room, job_id, blame=blame)
    assert (room.state(job_id), room.job(job_id).result) == (State.SUCCEEDED, "null")


def test_a_job_that_is_lost_just_before_it_is_reduced_pays_nothing(room: Room) -> None:
    pool = ObedientPool(size=1)
    job_id = room.submit_map(1, crash_retries=0, reduce_task="t", reduce_params="{}")
    room.dispatcher(pool).step(room.now)
    report(room, Report(job_id, 1, room.now, items=(Values(0, 1, "[0]"),)))
    lost(room, job_id)
    assert (room.state(job_id), room.job(job_id).crash_retries_used) == (State.QUEUED, 0)
    again = ObedientPool(size=1)
    room.now += timedelta(seconds=10)
    dispatcher = room.dispatcher(again)
    assert dispatcher.step(room.now) < 1.0
    dispatcher.step(room.now)
    assert [bundle[0].reduces for bundle in again.bundles] == [True]


def items(room: Room, job_id: int) -> dict[int, tuple[str, int]]:
    """What is noted of items that did not succeed at once: their state, and what they have paid."""
    query = select(item.c.number, item.c.state, item.c.crash_retries_used).where(item.c.job_id == job_id)
    with room.store.read() as connection:
        return {row.number: (row.state, row.crash_retries_used) for row in connection.execute(query)}


@pytest.mark.parametrize(
    ("crash_retries", "chunks", "paid"),
    [
        (2, (4,), {6: ("queued", 1)}),
        (2, None, {0: ("queued", 1), 6: ("queued", 1)}),
        (1, (4,), {6: ("queued", 1)}),
        (0, (4,), dict.fromkeys((0, 1, 2, 3, 6, 7), ("failed", 0))),
        (0, None, dict.fromkeys((0, 1, 2, 3, 6, 7), ("failed", 0))),
    ],
)
def test_of_a_chunk_that_was_lost_the_first_item_without_an_end_pays(
    room: Room, crash_retries: int, chunks: tuple[int, ...] | None, paid: dict[int, tuple[str, int]]
) -> None:
    """Only of the chunks that may be to blame; but what must not run twice has failed, as far as it may have run."""
    pool = ObedientPool(size=2)
    job_id = room.submit_map(20, chunk_size=4, crash_retries=crash_retries)
    room.dispatcher(pool).step(room.now)
    report(room, Report(job_id, 1, room.now, items=(Values(4, 2, "[0,0]"),)))
    report(room, *losses.reports([Victim(job_id, 1, "it died", chunks=chunks)], 2, room.now))
    assert items(room, job_id) == paid
    assert room.state(job_id) is State.QUEUED
    with room.store.read() as connection:
        assert not maps.has_open_chunks(connection, job_id)


def test_of_a_job_that_has_just_ended_no_chunk_is_handed_out(room: Room) -> None:
    """The result writer hears of the failure before the dispatcher does."""
    pool = ObedientPool(size=2)
    job_id = room.submit_map(20, chunk_size=1, max_failed=0)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    failed = ItemFailed(0, error(Ending.EXCEPTION, "no"), None, is_final=True)
    report(room, Report(job_id, 1, room.now, items=(failed,), closed=0))
    room.chunk(pool, 1)
    assert room.state(job_id) is State.FAILED
    dispatcher.step(room.now)
    assert [bundle[0].chunk.first for bundle in pool.bundles if bundle[0].chunk is not None] == [0]
    with room.store.read() as connection:
        assert not maps.has_open_chunks(connection, job_id)
    pool.just_ended.append((pool.bundles.pop()[0], Ran(0.01, 1, 0.01, (ItemRun(0, None, is_final=True),))))
    dispatcher.step(room.now)
    assert pool.bundles == []


def test_an_item_that_was_lost_once_too_often_has_failed(room: Room) -> None:
    job_id = room.submit_map(1, crash_retries=2)
    for attempt in (1, 2, 3):
        room.now += timedelta(seconds=100)
        room.dispatcher(ObedientPool(size=1)).step(room.now)
        report(room, *losses.reports([Victim(job_id, attempt, "it died")], 2, room.now))
    assert room.state(job_id) is State.FAILED
    assert items(room, job_id) == {0: ("failed", 2)}
    assert "lost: what ran it died while its chunk was in hand" in str(room.job(job_id).error)


def test_an_item_is_not_tried_again_before_its_last_run_is_recorded(room: Room) -> None:
    """Its chunk would be the one that is still open."""
    pool = ObedientPool(size=1)
    job_id = room.submit_map(1)
    dispatcher = room.dispatcher(pool)
    dispatcher.step(room.now)
    (ticket,) = pool.bundles.pop()
    pool.just_ended.append((ticket, Ran(0.01, 1, 0.01, (ItemRun(0, "crash_retries", is_final=False),))))
    for _ in range(3):
        room.now += timedelta(seconds=5)
        assert 0 < dispatcher.step(room.now) <= 1  # it does not spin
        assert pool.bundles == []
    failed = ItemFailed(0, error(Ending.CRASHED, "no"), "crash_retries", is_final=False)
    report(room, Report(job_id, 1, room.now, items=(failed,), closed=0))
    room.now += timedelta(seconds=1)
    dispatcher.step(room.now)
    assert [bundle[0].chunk for bundle in pool.bundles] != []
    with room.store.read() as connection:
        assert maps.chunks_in_hand(connection, job_id) == [range(1)]
    room.chunk(pool)
    assert room.state(job_id) is State.SUCCEEDED
