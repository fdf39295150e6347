"""What is removed, in what pieces, and what is seen of it meanwhile."""

import contextlib
import itertools
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from sqlalchemy import event as engine_event

from jobrunner.errors import JobNotFoundError, WrongStateError
from jobrunner.lifecycle import Ending, State
from jobrunner.reports import ItemFailed, Report, Values, error
from jobrunner.store import idempotency, jobs, lists, moves, retention
from jobrunner.store.engine import WAL_ROOM_BYTES, Store
from jobrunner.store.jobs import NewMap
from jobrunner.store.tables import attempt, event, idempotency_key, item, job, label, removal
from tests.store import processes as work
from tests.store.books import START, Books, ended, new, partial, url_of
from tests.store.processes import Processes
from tests.waiting import eventually

DAY = timedelta(days=1)
FINAL = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
ENDINGS = (Ending.SUCCEEDED, Ending.EXCEPTION, Ending.CANCELLED)


def ticking(milliseconds: float = 1.0) -> Callable[[], float]:
    """A clock that is later each time that one looks: a turn ends after so many looks."""
    looks = 0

    def monotonic() -> float:
        nonlocal looks
        looks += 1
        return looks * milliseconds / 1000

    return monotonic


def standing() -> float:
    """A clock by which a turn is never over."""
    return 0.0


def everything_until(moment: datetime) -> dict[State, datetime]:
    return dict.fromkeys(FINAL, moment)


def piece(
    books: Books, before: dict[State, datetime] | None = None, monotonic: Callable[[], float] = standing
) -> bool:
    """Remove what one transaction may; return whether there was something to do."""
    if before is None:
        before = everything_until(books.now)
    return retention.remove_some(books.store, before, monotonic=monotonic)


def remove_all(books: Books, before: dict[State, datetime] | None = None, **more: Any) -> int:
    """Return in how many pieces all that is due went."""
    pieces = 0
    while piece(books, before, **more):
        pieces += 1
    return pieces


def ids(books: Books) -> list[int]:
    with books.read() as connection:
        return sorted(one.id for one in lists.page(connection, lists.Filter(), before_id=None, limit=1000))


def rows(books: Books) -> dict[str, int]:
    """How many rows there are of all that belongs to jobs."""
    tables = (job, event, attempt, label, idempotency_key, removal)
    with books.read() as connection:
        return {
            one.name: connection.execute(select(func.count()).select_from(one)).scalar_one() for one in tables
        }


def seqs(books: Books, job_id: int) -> list[int]:
    return [one.seq for one in books.events(job_id, limit=1_000_000)]


def talkative(books: Books, events: int, **more: Any) -> int:
    """Return a job that succeeded with so many events."""
    claimed = books.running(**more)
    books.report(books.says(claimed, *[partial(1)] * (events - 3)), books.end_of(claimed, Ending.SUCCEEDED))
    return claimed.id


def mapped(books: Books, *said: Values | ItemFailed, items: int, spec: str = "[]") -> int:
    """Return a map job of which this was said, and that was stopped then; of all that failed one event tells."""
    job_id = books.queued(map=NewMap(spec, items))
    with books.store.write(durable=False) as connection:
        moves.claim(connection, books.dispatcher_id, tasks="t", limit=0, map_limit=1, now=books.now)
    books.cancel(job_id)
    books.report(Report(job_id, 1, books.now, items=said, ended=ended(Ending.CANCELLED)))
    assert books.job(job_id).state is State.CANCELLED
    return job_id


def failed(number: int) -> ItemFailed:
    return ItemFailed(number, error(Ending.EXCEPTION, "no"), None, is_final=True)


# -- what goes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_job_goes_when_it_was_kept_long_enough_and_not_before(books: Books, ending: Ending) -> None:
    job_id = books.finished(ending)
    assert not piece(books, everything_until(START - timedelta(microseconds=1)))
    assert ids(books) == [job_id]
    assert piece(books, everything_until(START))
    assert ids(books) == []


def test_each_final_state_has_a_time_of_its_own(books: Books) -> None:
    old = [books.finished(ending) for ending in ENDINGS]
    books.later(100)
    young = [books.finished(ending) for ending in ENDINGS]
    remove_all(books, {State.SUCCEEDED: books.now, State.FAILED: START})
    assert ids(books) == [old[2], *young[1:]]


def test_what_is_not_final_stays_however_old(books: Books) -> None:
    stays = [books.queued(), books.queued(run_at=START + DAY), books.running().id]
    again = books.finished(Ending.EXCEPTION)
    books.requeue(again)
    books.later(10_000_000)
    assert remove_all(books) == 0
    assert ids(books) == sorted([*stays, again])


def test_all_that_belongs_to_a_job_goes_with_it_and_nothing_of_another(books: Books) -> None:
    stays = talkative(books, 10, labels={"who": "me"})
    books.later(1)
    before = rows(books)
    goes = talkative(books, 20, labels={"who": "me", "what": "test"})
    with books.store.write(durable=True) as connection:
        idempotency.keep(connection, 0, "once", "0" * 64, [goes])
    remove_all(books, {State.SUCCEEDED: books.now - timedelta(seconds=1)})
    assert ids(books) == [goes]
    remove_all(books)
    assert set(rows(books).values()) == {0}
    assert before["event"] == 10
    assert stays not in ids(books)


def test_more_jobs_than_fit_into_a_piece_go_in_several_the_oldest_first(books: Books) -> None:
    books.submit(*[new()] * (retention.JOBS + 2))
    claimed = books.claim(limit=1000)
    for one in claimed[:2]:
        books.report(Report(one.id, one.attempt, START + DAY, (), ended(Ending.SUCCEEDED)))
    books.report(*(books.end_of(one, Ending.SUCCEEDED) for one in claimed[2:]))
    books.later(2 * DAY.total_seconds())
    piece(books)
    assert ids(books) == [one.id for one in claimed[:2]]
    assert remove_all(books) == 1
    assert books.counts() == dict.fromkeys(State, 0)


# -- in what pieces ------------------------------------------------------------------------------


def test_a_piece_ends_when_its_time_is_over(books: Books) -> None:
    job_id = talkative(books, 30)
    in_time = round(retention.LOCK_SECONDS * 1000)
    piece(books, monotonic=ticking(1))
    assert seqs(books, job_id) == list(range(in_time + 1, 31))
    piece(books, monotonic=ticking(1))
    assert seqs(books, job_id) == list(range(2 * in_time + 1, 31))
    books.audit()


def test_a_piece_ends_after_so_many_events(books: Books) -> None:
    job_id = talkative(books, retention.ROWS + 10)
    piece(books)
    assert seqs(books, job_id) == list(range(retention.ROWS + 1, retention.ROWS + 11))
    assert remove_all(books) == 1


def test_where_every_row_takes_longer_than_a_piece_may_one_goes_at_a_time(books: Books) -> None:
    each = retention.LIGHT_EVENTS + 1
    talkative(books, each), talkative(books, each)
    assert remove_all(books, monotonic=ticking(1000)) == 2 * (each + 1)
    assert set(rows(books).values()) == {0}


def test_a_deletion_that_is_asked_for_goes_in_pieces_too(books: Books) -> None:
    begun: list[int] = []
    engine_event.listen(books.store.engine, "begin", begun.append)
    job_id = talkative(books, 50)
    other = talkative(books, 5)
    begun.clear()
    retention.remove(books.store, job_id, monotonic=ticking(1))
    assert len(begun) >= 50 / (retention.LOCK_SECONDS * 1000)
    assert ids(books) == [other]


def test_light_jobs_go_many_at_a_time_and_each_of_them_whole(books: Books) -> None:
    for _ in range(retention.CHUNK + 1):
        talkative(books, retention.LIGHT_EVENTS)
    piece(books, monotonic=ticking(1000))
    assert rows(books) == {
        "job": 1,
        "event": retention.LIGHT_EVENTS,
        "attempt": 1,
        "label": 0,
        "idempotency_key": 0,
        "removal": 0,
    }


def test_items_that_have_failed_go_in_pieces_too(books: Books) -> None:
    def left() -> int:
        with books.read() as connection:
            return connection.execute(select(func.count()).select_from(item)).scalar_one()

    count = retention.LIGHT_EVENTS + 40
    job_id = mapped(books, *map(failed, range(count)), items=count + 1)
    events = books.job(job_id).version
    assert events < retention.LIGHT_EVENTS
    in_time = round(retention.LOCK_SECONDS * 1000)
    seen = []
    while piece(books, monotonic=ticking(1)):
        books.audit()
        seen.append((rows(books)["event"], left()))
    of_items = [items for events, items in seen if not events]
    assert len(of_items) > count // in_time
    assert max(one - other for one, other in itertools.pairwise(of_items)) == in_time
    assert set(rows(books).values()) == {left()} == {0}


def test_a_row_with_many_values_is_one_row_to_be_deleted(books: Books) -> None:
    values = [Values(n * 10_000, 10_000, f"[{'0,' * 9_999}0]") for n in range(30)]
    job_id = mapped(books, *values, items=300_001)
    assert books.job(job_id).version > 300_000
    pieces = remove_all(books, monotonic=ticking(1))
    assert pieces <= 10  # by their time, of 30 rows of values, and 4 that tell of states
    assert set(rows(books).values()) == {0}


@pytest.mark.parametrize("heavy", ["result", "params", "partial"])
def test_a_job_is_not_light_whose_few_rows_are_large(books: Books, heavy: str) -> None:
    large = f'"{"x" * retention.LIGHT_BYTES}"'
    first = books.finished(Ending.SUCCEEDED)
    books.later(1)
    claimed = books.running(params=large if heavy == "params" else "{}")
    said = [partial(large)] if heavy == "partial" else []
    result = {"result": large} if heavy == "result" else {}
    books.report(books.end_of(claimed, Ending.SUCCEEDED, *said, **result))
    piece(books, monotonic=ticking(1000))
    assert ids(books) == [claimed.id]  # the first alone
    assert first != claimed.id
    piece(books, monotonic=ticking(1000))
    assert seqs(books, claimed.id)[0] == 2
    assert rows(books)["removal"] == 1


@pytest.mark.parametrize("heavy", ["spec", "error", "nothing"])
def test_a_small_map_job_is_light_unless_its_few_rows_are_large(books: Books, heavy: str) -> None:
    large = "x" * retention.LIGHT_BYTES
    told = error(Ending.EXCEPTION, large if heavy == "error" else "no")
    spec = f'["{large if heavy == "spec" else ""}"]'
    mapped(books, ItemFailed(0, told, None, is_final=True), Values(1, 1, "[1]"), items=3, spec=spec)
    piece(books, monotonic=ticking(1000))
    assert rows(books)["removal"] == (heavy != "nothing")


def test_light_jobs_together_are_not_heavy(books: Books) -> None:
    third = f'"{"x" * (retention.LIGHT_BYTES // 3)}"'
    for _ in range(5):
        claimed = books.running()
        books.report(books.end_of(claimed, Ending.SUCCEEDED, result=third))
    piece(books)
    assert len(ids(books)) == 3


def test_a_job_that_is_asked_for_again_just_before_it_goes_stays(books: Books) -> None:
    stays = books.finished(Ending.EXCEPTION)
    books.finished(Ending.EXCEPTION)

    class Interrupted(Store):
        """When this one wants to write, somebody else has just written."""

        @contextlib.contextmanager
        def write(self, *, durable: bool) -> Iterator[Connection]:
            books.requeue(stays)
            with super().write(durable=durable) as connection:
                yield connection

    store = Interrupted(url_of(books.store.path))
    assert retention.remove_some(store, everything_until(books.now))
    store.close()
    assert ids(books) == [stays]
    assert seqs(books, stays) == [1, 2, 3, 4]


# -- what is seen meanwhile ----------------------------------------------------------------------


@pytest.fixture(params=ENDINGS)
def half_gone(books: Books, request: pytest.FixtureRequest) -> Iterator[int]:
    """A job that has lost some of its events, with a label and a key."""
    claimed = books.running(labels={"who": "me"})
    said = [partial(1)] * 20
    books.report(books.says(claimed, *said), books.end_of(claimed, request.param))
    with books.store.write(durable=True) as connection:
        idempotency.keep(connection, 0, "once", "0" * 64, [claimed.id])
    piece(books, monotonic=ticking(1))
    assert seqs(books, claimed.id)[0] > 1
    yield claimed.id
    assert seqs(books, claimed.id)[0] > 1


def test_a_job_that_is_half_gone_is_not_seen(books: Books, half_gone: int) -> None:
    with books.read() as connection:
        with pytest.raises(JobNotFoundError):
            jobs.get(connection, half_gone)
        with pytest.raises(JobNotFoundError):
            jobs.version(connection, half_gone)
        for wanted in (lists.Filter(), lists.Filter(labels=(("who", "me"),)), lists.Filter(states=FINAL)):
            assert lists.page(connection, wanted, before_id=None, limit=10) == []
        assert idempotency.find(connection, 0, "once") is None
    books.audit()


def test_a_job_that_is_half_gone_is_not_there_for_anybody_who_wants_something_of_it(
    books: Books, half_gone: int
) -> None:
    for verb in (books.requeue, books.cancel, books.remove):
        with pytest.raises(JobNotFoundError):
            verb(half_gone)
    assert books.claim() == []


# -- who disturbs whom ---------------------------------------------------------------------------


def test_what_somebody_has_begun_to_remove_goes_even_where_jobs_are_kept_for_ever(books: Books) -> None:
    talkative(books, 30)
    piece(books, monotonic=ticking(1))
    stays = talkative(books, 5)
    assert remove_all(books, {}) >= 1
    assert ids(books) == [stays]
    assert rows(books)["event"] == 5


def test_a_deletion_that_is_killed_in_the_middle_is_finished_by_the_next_who_looks(books: Books) -> None:
    events = 100_000
    job_id, stays = talkative(books, events), books.finished(Ending.SUCCEEDED)
    with books.store.write(durable=True) as connection:
        idempotency.keep(connection, 0, "once", "0" * 64, [job_id])
    program = (
        "import sys; from jobrunner.store import retention; from jobrunner.store.engine import Store;"
        f"retention.remove(Store(sys.argv[1]), {job_id})"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(books.store.url)])
    eventually(lambda: rows(books)["event"] < events or child.poll() is not None, 60)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert 3 < rows(books)["event"] < events
    with books.read() as connection:
        assert idempotency.find(connection, 0, "once") is None
    books.audit()
    assert ids(books) == [stays]
    remove_all(books, {})
    assert rows(books) == {"job": 1, "event": 3, "attempt": 1, "label": 0, "idempotency_key": 0, "removal": 0}


def test_who_deletes_a_job_does_not_wait_for_another_to_go(books: Books) -> None:
    talkative(books, 30)
    piece(books, monotonic=ticking(1))
    before = rows(books)["event"]
    books.remove(books.finished(Ending.SUCCEEDED))
    assert rows(books)["event"] == before


def test_of_those_who_delete_a_job_at_once_one_does_and_retention_disturbs_nobody(
    books: Books, processes: Processes
) -> None:
    job_id, stays = talkative(books, 8000), books.queued()
    url = str(books.store.url)
    calls = [(work.remove, url, job_id), (work.remove, url, job_id), (work.expire, url, books.now)]
    *deleted, expired = processes.together(*calls)
    assert deleted.count(True) + expired >= 1
    assert deleted.count(True) <= 1
    assert ids(books) == [stays]
    remove_all(books, {})
    assert rows(books) == {"job": 1, "event": 1, "attempt": 0, "label": 0, "idempotency_key": 0, "removal": 0}


def test_only_a_final_job_is_marked(books: Books) -> None:
    running = books.running().id
    with pytest.raises(WrongStateError, match=f"job {running} is running: cannot delete it"):
        books.remove(running)
    assert rows(books)["removal"] == 0


# -- what it costs -------------------------------------------------------------------------------


def test_every_row_is_found_by_an_index(books: Books) -> None:
    executed: dict[str, Any] = {}

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        executed[statement] = parameters

    books.submit(*[new()] * retention.CHUNK)
    books.report(*(books.end_of(one, Ending.SUCCEEDED) for one in books.claim()))
    talkative(books, retention.LIGHT_EVENTS + 1)
    engine_event.listen(books.store.engine, "before_cursor_execute", note)
    remove_all(books)
    engine_event.remove(books.store.engine, "before_cursor_execute", note)
    for part in retention._PARTS:
        executed |= {part.keys: (1, 1), part.delete: (1, 1)}
    executed[retention._DELETE_JOB] = (1,)
    scanned: set[str] = set()
    found: set[str] = set()
    with books.read() as connection:
        for statement, parameters in executed.items():
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            for detail in plan.scalars("detail"):
                assert not (statement.startswith("DELETE") and "ix_job_expiry" in detail), statement
                (scanned if detail.startswith(("SCAN", "USE TEMP")) else found).add(detail)
    # What is marked is little, and there are few queues; the rest is searched.
    small = {"SCAN removal", "SCAN tally", "SCAN CONSTANT ROW"}
    assert {detail.split(" USING")[0] for detail in scanned} <= small
    assert "SEARCH job USING COVERING INDEX ix_job_expiry (state=? AND finished_at<?)" in found
    assert "SEARCH job USING INDEX ix_job_expiry (state=? AND finished_at<?)" in found


def test_what_is_free_again_is_used_again(books: Books) -> None:
    def pages() -> int:
        with books.read() as connection:
            return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())

    sizes = []
    for _ in range(4):
        books.submit(*[new(params=f'{{"x": "{"y" * 3000}"}}')] * 500)
        claimed = books.claim(limit=1000)
        said = [partial("z" * 5000)] * 3
        books.report(*(books.end_of(one, Ending.SUCCEEDED, *said) for one in claimed))
        sizes.append(pages())
        remove_all(books)
        books.store.checkpoint_if_large(1)
    assert sizes[0] > 2000
    assert max(sizes) <= 1.02 * sizes[0], sizes


def test_the_write_ahead_log_grows_no_more_than_by_other_writes(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = 1 << 20
    monkeypatch.setattr("jobrunner.store.engine.WAL_ROOM_BYTES", 0)
    books.store.close()  # what it opens from here on keeps nothing
    for _ in range(4):
        talkative(books, 2500, labels={"who": "me"})
    books.store.checkpoint_if_large(1)
    longest = 0
    while piece(books, monotonic=ticking(0.02)):
        longest = max(longest, books.store.wal_bytes())
        books.store.checkpoint_if_large(bound)
    assert longest < 2 * bound


def test_what_is_deleted_is_not_written_once_more(books: Books) -> None:
    claimed = books.running()
    books.report(books.end_of(claimed, Ending.SUCCEEDED, result=f'"{"x" * (2 * WAL_ROOM_BYTES)}"'))
    books.store.checkpoint_if_large(1)
    remove_all(books)
    assert books.store.wal_bytes() <= WAL_ROOM_BYTES  # what it keeps after a checkpoint
