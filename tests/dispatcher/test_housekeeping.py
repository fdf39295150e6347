"""What one dispatcher clears away between the turns of its loop; time is given, and nobody sleeps."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert, select

from jobrunner.dispatcher.housekeeping import LOOK, SHARE, Housekeeping
from jobrunner.dispatcher.loop import BEAT
from jobrunner.lifecycle import Ending, State
from jobrunner.settings import Settings
from jobrunner.store import lists, retention, tables, throughput
from tests.dispatcher.running import World
from tests.dispatcher.stepping import ObedientPool, Room
from tests.store.books import Books, new, partial
from tests.stores import prepared
from tests.waiting import eventually

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def ticking(seconds: float = 0.001) -> Callable[[], float]:
    """A clock that is later each time that one looks."""
    looks = 0

    def monotonic() -> float:
        nonlocal looks
        looks += 1
        return looks * seconds

    return monotonic


class House:
    """A store to keep, whose transactions are noted."""

    def __init__(self, directory: Path) -> None:
        self.store = prepared(directory / "jobrunner.db")
        self.read = self.written = 0
        event.listen(self.store.engine, "connect", lambda driver, _: driver.set_trace_callback(self._note))
        self.books = Books(self.store, now=NOW)

    def _note(self, statement: str) -> None:
        self.written += statement == "BEGIN IMMEDIATE"
        self.read += statement == "BEGIN"

    def keeper(
        self, *, now: datetime = NOW, monotonic: Callable[[], float] | None = None, **more: Any
    ) -> Housekeeping:
        return Housekeeping(self.store, Settings(**more), now=now, monotonic=monotonic or ticking())

    def finished(self, ago: timedelta, ending: Ending = Ending.SUCCEEDED, events: int = 3) -> int:
        """Return a job that finished so long ago."""
        self.books.now = NOW - ago
        claimed = self.books.running()
        said = [partial(1)] * (events - 3)
        self.books.report(self.books.says(claimed, *said), self.books.end_of(claimed, ending))
        return claimed.id

    def left(self) -> set[int]:
        with self.store.read() as connection:
            found = lists.page(connection, lists.Filter(), before_id=None, limit=1000)
        return {one.id for one in found}

    def sample(self, ago: timedelta, seconds: int, dispatcher_id: int | None = None) -> None:
        """Sample each second for so long, from so long ago on."""
        counted = {"seconds": 1.0, "done": 1, "failed": 2, "partials": 3, "busy_seconds": 0.5, "queued": 4}
        mine = {"dispatcher_id": dispatcher_id or self.books.dispatcher_id}
        moments = (NOW - ago + number * SECOND for number in range(1, seconds + 1))
        with self.store.write(durable=False) as connection:
            connection.execute(
                insert(tables.throughput), [{"at": moment, **mine, **counted} for moment in moments]
            )

    def samples(self) -> list[tuple[Any, ...]]:
        with self.store.read() as connection:
            rows = connection.execute(select(tables.throughput).order_by(*tables.throughput.primary_key))
            return [tuple(row) for row in rows]

    def total(self) -> throughput.Sample:
        with self.store.read() as connection:
            return throughput.since(connection, NOW - 1000 * DAY)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.books.audit()
    made.store.close()


def keep_until_done(*keepers: Housekeeping) -> int:
    """Let them take turns, each when it wants to, until all rest; return how many turns that took."""
    turns = 0
    while any(keeper.next_at < NOW + LOOK for keeper in keepers):
        for keeper in keepers:
            if keeper.next_at < NOW + LOOK:
                keeper.step(keeper.next_at)
                turns += 1
        assert turns < 10_000
    return turns


# -- when ----------------------------------------------------------------------------------------


def test_where_there_is_nothing_to_do_it_looks_once_a_minute_and_writes_nothing(house: House) -> None:
    house.finished(timedelta(hours=1))
    keeper = house.keeper()
    house.read = house.written = 0
    keeper.step(NOW)
    assert keeper.next_at == NOW + LOOK
    looked = house.read
    keeper.step(NOW + LOOK - SECOND)
    assert house.read == looked
    keeper.step(NOW + LOOK)
    assert (house.read, house.written) == (2 * looked, 0)


def test_a_turn_is_one_short_transaction(house: House) -> None:
    house.finished(30 * DAY, events=50)
    house.sample(2 * DAY, 600)
    keeper = house.keeper()
    for _ in range(30):
        before = house.written
        keeper.step(keeper.next_at)
        assert house.written - before <= 1
    assert house.left() == set()


def test_it_rests_longer_than_it_works(house: House) -> None:
    house.finished(30 * DAY, events=50)
    house.written = 0
    keeper = house.keeper(monotonic=lambda: house.written * 0.5)  # half a second for each write
    keeper.step(NOW)
    assert keeper.next_at == NOW + timedelta(seconds=0.5 / SHARE)


def test_it_looks_again_within_a_minute_however_long_it_took(house: House) -> None:
    house.finished(30 * DAY, events=50)
    keeper = house.keeper(monotonic=ticking(1000))
    keeper.step(NOW)
    assert keeper.next_at == NOW + LOOK


def test_a_clock_that_is_set_back_keeps_it_from_nothing(house: House) -> None:
    keeper = house.keeper(now=NOW + 365 * DAY)
    keeper.step(NOW + 365 * DAY)
    job_id = house.finished(8 * DAY)
    keeper.step(NOW)
    assert job_id not in house.left()


# -- jobs ----------------------------------------------------------------------------------------


def test_jobs_go_after_the_time_that_the_settings_say(house: House) -> None:
    endings = (Ending.SUCCEEDED, Ending.EXCEPTION, Ending.CANCELLED)
    ages = (6.9 * DAY, 7.1 * DAY, 29.9 * DAY, 30.1 * DAY)
    made = {(ending, age): house.finished(age, ending) for ending in endings for age in ages}
    house.books.now = NOW - 1000 * DAY
    waits = house.books.queued()
    keep_until_done(house.keeper())
    stays = {
        job_id
        for (ending, age), job_id in made.items()
        if age < (7 if ending is Ending.SUCCEEDED else 30) * DAY
    }
    assert house.left() == stays | {waits}


@pytest.mark.parametrize("keep", [float("inf"), 1e18])
def test_jobs_may_be_kept_for_ever(house: House, keep: float) -> None:
    made = {house.finished(10_000 * DAY), house.finished(10_000 * DAY, Ending.EXCEPTION)}
    keep_until_done(house.keeper(keep_succeeded=keep, keep_failed=keep))
    assert house.left() == made


def test_jobs_need_not_be_kept_at_all(house: House) -> None:
    house.finished(timedelta(0)), house.finished(timedelta(0), Ending.CANCELLED)
    keep_until_done(house.keeper(keep_succeeded=0.0, keep_failed=0.0))
    assert house.left() == set()


def test_what_one_leaves_half_done_another_finishes(house: House) -> None:
    house.finished(30 * DAY, events=50)
    first = house.keeper()
    while house.left():
        first.step(first.next_at)
    assert sum(house.books.counts().values()) == 1
    keep_until_done(house.keeper(keep_succeeded=float("inf")))
    assert house.books.counts() == dict.fromkeys(State, 0)


def test_two_dispatchers_keep_one_house_together(house: House) -> None:
    for _ in range(20):
        house.finished(30 * DAY, events=20)
    stays = house.finished(DAY)
    house.sample(2 * DAY, 600)
    house.sample(2 * DAY, 600, house.books.register())
    before = house.total()
    keep_until_done(house.keeper(), house.keeper())
    assert house.left() == {stays}
    assert (house.total(), len(house.samples())) == (before, 2 * 10)


def test_jobs_and_samples_take_turns(house: House) -> None:
    house.finished(30 * DAY, events=500)
    house.sample(2 * DAY, 1800)
    samples = len(house.samples())
    keeper = house.keeper()
    for _ in range(12):
        keeper.step(keeper.next_at)
    assert sum(house.books.counts().values()) > 0
    assert len(house.samples()) < samples


# -- samples -------------------------------------------------------------------------------------


def test_samples_grow_sparse_with_age_and_go_in_the_end(house: House) -> None:
    ages = (timedelta(minutes=30), timedelta(hours=2), 2 * DAY, 89 * DAY)
    for age in ages:
        house.sample(age, 120)
    before = house.total()
    house.sample(91 * DAY, 1200)
    keep_until_done(house.keeper())
    found = [at for at, *_ in house.samples()]
    counts = [sum(NOW - age < at <= NOW - age + 120 * SECOND for at in found) for age in ages]
    assert counts == [120, 12, 2, 2]
    assert len(found) == sum(counts)
    assert house.total() == before


def test_it_does_not_matter_when_samples_are_thinned_nor_by_whom(house: House) -> None:
    house.sample(2 * DAY, 3600)
    at_once = house.keeper()
    keeper = house.keeper(now=NOW - 2 * DAY)
    for hours in range(49):
        if hours % 7 == 0:
            keeper = house.keeper(now=NOW)
        now = NOW - 2 * DAY + timedelta(hours=hours)
        keeper.step(now)
        while keeper.next_at < now + LOOK:
            keeper.step(keeper.next_at)
    found = house.samples()
    keep_until_done(at_once)
    assert house.samples() == found
    assert [row[2:] for row in found] == [(60.0, 60, 120, 180, 30.0, 4)] * 60


def test_samples_that_come_of_age_are_thinned_by_one_who_has_looked_before(house: House) -> None:
    keeper = house.keeper()
    keep_until_done(keeper)
    house.sample(timedelta(0), 31)
    found = []
    for seconds in (31, 91):
        now = NOW + timedelta(hours=1, seconds=seconds)
        keeper.step(now)
        while keeper.next_at < now + LOOK:
            keeper.step(keeper.next_at)
        found.append([(at - NOW).total_seconds() for at, *_ in house.samples()])
    assert found == [[10, 20, 30, 31], [10, 20, 30, 40]]


# -- in the loop ---------------------------------------------------------------------------------


def test_the_loop_keeps_house_and_rests_less_while_there_is_more_to_do(tmp_path: Path) -> None:
    room = Room(tmp_path)
    books = Books(room.store, now=room.now)
    books.submit(*[new()] * (retention.JOBS + 1))
    books.report(*(books.end_of(one, Ending.SUCCEEDED) for one in books.claim(limit=1000)))
    books.end_dispatcher(books.dispatcher_id)
    room.now += 8 * DAY
    dispatcher = room.dispatcher(ObedientPool())
    rest = dispatcher.step(room.now)
    assert rest < BEAT.total_seconds()
    turns = 0
    while sum(books.counts().values()):
        room.now += timedelta(seconds=dispatcher.step(room.now))
        turns += 1
    assert turns >= 1
    room.now += BEAT
    while dispatcher.step(room.now) < BEAT.total_seconds():
        room.now += BEAT
    room.store.close()


def test_a_dispatcher_that_starts_removes_what_has_expired(world: World) -> None:
    books = Books(world.store, now=NOW - 10_000 * DAY)
    old = books.finished(Ending.SUCCEEDED)
    books.end_dispatcher(books.dispatcher_id)
    world.start(keep_failed="forever")
    eventually(lambda: sum(books.counts().values()) == 0, 60)
    assert world.run("nothing").id == old + 1
