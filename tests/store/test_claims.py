import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrunner.lifecycle import Ending, State
from jobrunner.reports import EventKind
from jobrunner.store import lost as lost_of
from jobrunner.store import moves, queues
from jobrunner.store.lost import LOST_AMONG, Lost, postpone
from jobrunner.store.moves import Claimed
from tests.store import processes as work
from tests.store.books import START, Books, new, progress, url_of
from tests.store.processes import Processes


def ids(claimed: list[Claimed]) -> list[int]:
    return [one.id for one in claimed]


def test_a_claimed_job_runs_in_the_hands_of_the_claimer(books: Books) -> None:
    job_id = books.queued(params='{"n": 1}', timeout_seconds=5.0, memory_limit_bytes=1 << 30, crash_retries=1)
    now = books.later(3)
    (claimed,) = books.claim()
    assert claimed == Claimed(
        id=job_id,
        attempt=1,
        task="t",
        params='{"n": 1}',
        timeout_seconds=5.0,
        memory_limit_bytes=1 << 30,
        crash_retries=1,
        version=2,
    )
    found = books.job(job_id)
    assert found.state is State.RUNNING
    assert (found.dispatcher_id, found.attempt, found.started_at) == (books.dispatcher_id, 1, now)
    assert (found.version, found.created_at, found.finished_at) == (2, START, None)


def test_a_claim_opens_an_attempt_and_tells_the_history(books: Books) -> None:
    claimed = books.running()
    (attempt,) = books.attempts(claimed.id)
    assert (attempt.number, attempt.dispatcher_id, attempt.started_at) == (1, books.dispatcher_id, START)
    assert (attempt.worker, attempt.finished_at, attempt.outcome, attempt.error) == (None,) * 4
    last = books.events(claimed.id)[-1]
    assert (last.seq, last.kind, last.attempt) == (2, EventKind.STATE, 1)
    assert json.loads(last.data) == {"state": "running"}


def test_where_nothing_is_queued_nothing_is_claimed(books: Books) -> None:
    books.running()
    books.finished(Ending.SUCCEEDED)
    before = books.dump()
    assert books.claim() == []
    assert books.dump() == before


def test_what_is_claimed_is_not_claimed_again(books: Books) -> None:
    books.submit(*[new()] * 5)
    assert ids(books.claim(limit=2)) == [1, 2]
    assert ids(books.claim(limit=2)) == [3, 4]
    assert ids(books.claim(limit=2)) == [5]
    assert books.claim(limit=2) == []


def test_the_higher_priority_goes_first_and_among_equals_the_older(books: Books) -> None:
    books.submit(*[new(priority=priority) for priority in (0, 5, -5, 5, 0, 1_000_000, -1_000_000)])
    assert ids(books.claim()) == [6, 2, 4, 1, 5, 3, 7]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(priorities=st.lists(st.integers(-3, 3), min_size=1, max_size=12), limit=st.integers(1, 5))
def test_any_queue_is_claimed_in_that_order(books: Books, priorities: list[int], limit: int) -> None:
    queued = books.submit(*[new(priority=priority) for priority in priorities])
    claimed: list[int] = []
    for _ in queued:
        claimed += ids(books.claim(limit=limit))
    by_rank = sorted(zip(priorities, queued, strict=True), key=lambda one: (-one[0], one[1]))
    assert claimed == [job_id for _, job_id in by_rank]


def test_a_job_that_came_back_waits_among_the_others_by_its_age(books: Books) -> None:
    first, second = books.submit(new(), new())
    (claimed,) = books.claim(limit=1)
    books.report(books.end_of(claimed, Ending.RELEASED))
    assert ids(books.claim()) == [first, second]


# -- what the claimer can run, and has room for --------------------------------------------------


def test_only_tasks_that_the_dispatcher_knows_are_claimed(books: Books) -> None:
    books.submit(new(task="a"), new(task="b"), new(task="c"), new(task="a"))
    assert ids(books.claim(tasks=["a", "c"])) == [1, 3, 4]
    assert books.claim(tasks=["a", "c", "d"]) == []
    assert books.claim(tasks=[]) == []
    assert ids(books.claim(tasks=["b"])) == [2]


def test_a_task_that_nobody_knows_holds_no_other_up(books: Books) -> None:
    books.submit(*[new(task="unknown", priority=9)] * 50, new())
    assert ids(books.claim(limit=1)) == [51]


def test_only_as_many_as_there_is_room_for_are_claimed(books: Books) -> None:
    books.submit(*[new()] * 5)
    before = books.dump()
    assert books.claim(room=0) == []
    assert books.dump() == before
    assert ids(books.claim(room=3)) == [1, 2, 3]
    assert books.counts()[State.RUNNING] == 3


def test_a_long_queue_that_is_paused_is_not_walked(books: Books) -> None:
    books.submit(*[new(queue="night")] * 3000, new(queue="day"))
    with books.store.write(durable=False) as connection:
        queues.pause(connection, "night", now=books.now)
    with books.store.write(durable=False) as connection:
        sqlite: Any = connection.connection.dbapi_connection
        steps: list[int] = []
        sqlite.set_progress_handler(
            lambda: steps.append(1), 100
        )  # called every hundred of SQLite's own steps
        claimed = moves.claim(connection, books.dispatcher_id, tasks=["t"], limit=5, now=books.now)
        sqlite.set_progress_handler(None, 0)
    assert [one.id for one in claimed] == [3001]
    assert len(steps) < 30


def test_the_queues_are_claimed_from_by_priority_and_age_whatever_their_names(books: Books) -> None:
    books.submit(new(queue="b"), new(queue="a"), new(queue="c", priority=1), new(queue="a"))
    assert ids(books.claim(room=3)) == [3, 1, 2]


def test_the_claimer_chooses_knowing_what_it_may_have(books: Books) -> None:
    books.submit(new(task="short"), new(task="short"), new(task="long"), new(task="short"))
    seen: list[Sequence[Claimed]] = []

    def while_short(ready: Sequence[Claimed]) -> Sequence[Claimed]:
        seen.append(ready)
        tasks = [one.task for one in ready]
        return ready[: tasks.index("long")]

    with books.store.write(durable=False) as connection:
        claimed = moves.claim(
            connection,
            books.dispatcher_id,
            tasks=["short", "long"],
            limit=10,
            choose=while_short,
            now=books.now,
        )
    assert [one.task for one in seen[0]] == ["short", "short", "long", "short"]
    assert ids(claimed) == [1, 2]


# -- when a job is due ---------------------------------------------------------------------------


def next_due_seconds(books: Books) -> float | None:
    """In how many seconds from the start the next scheduled job may run."""
    with books.read() as connection:
        found = moves.next_due_at(connection)
    return None if found is None else (found - START).total_seconds()


def test_a_scheduled_job_is_claimed_when_it_is_due_and_not_before(books: Books) -> None:
    books.queued(run_at=START + timedelta(seconds=10))
    books.later(9.999999)
    assert books.claim() == []
    books.later(0.000001)
    (claimed,) = books.claim()
    found = books.job(claimed.id)
    assert (found.due_at, found.run_at) == (None, START + timedelta(seconds=10))


def test_a_job_that_has_become_due_takes_its_place_by_priority_and_age(books: Books) -> None:
    books.submit(
        new(run_at=START + timedelta(seconds=1)), new(), new(run_at=START + timedelta(1), priority=5)
    )
    books.later(1)
    assert ids(books.claim()) == [1, 2]


def test_the_next_moment_at_which_a_job_is_due_is_known(books: Books) -> None:
    assert next_due_seconds(books) is None
    books.queued()
    assert next_due_seconds(books) is None
    later, sooner = (books.queued(run_at=START + timedelta(seconds=seconds)) for seconds in (20, 10))
    assert next_due_seconds(books) == 10
    books.cancel(sooner)
    assert next_due_seconds(books) == 20
    books.later(20)
    assert later in ids(books.claim())
    assert next_due_seconds(books) is None


def test_a_job_that_became_due_is_not_waited_for_even_if_nobody_can_run_it(books: Books) -> None:
    books.queued(task="unknown", run_at=START + timedelta(seconds=1))
    books.later(1)
    assert books.claim() == []
    assert next_due_seconds(books) is None


# -- who may claim -------------------------------------------------------------------------------


def test_a_dispatcher_that_was_given_up_for_dead_claims_nothing(books: Books) -> None:
    books.queued()
    gone = books.register()
    assert books.end_dispatcher(gone)
    assert books.claim(by=gone) == []
    assert ids(books.claim()) == [1]


def test_who_never_registered_claims_nothing(books: Books) -> None:
    books.queued()
    assert books.claim(by=999) == []


def test_each_dispatcher_holds_what_it_claimed(books: Books) -> None:
    other = books.register()
    books.submit(*[new()] * 4)
    mine, its = books.claim(limit=3), books.claim(by=other)
    with books.read() as connection:
        assert sorted(moves.held(connection, books.dispatcher_id)) == [(one.id, 1) for one in mine]
        assert sorted(moves.held(connection, other)) == [(one.id, 1) for one in its]
    books.report(books.end_of(mine[0], Ending.SUCCEEDED))
    with books.read() as connection:
        assert sorted(moves.held(connection, books.dispatcher_id)) == [(2, 1), (3, 1)]


def test_a_second_attempt_begins_with_clean_progress_under_its_own_number(books: Books) -> None:
    first = books.running(retries=1)
    books.report(books.end_of(first, Ending.LOST, progress(7)))
    assert books.job(first.id).progress is not None
    (second,) = books.claim()
    assert (second.id, second.attempt) == (first.id, 2)
    assert books.job(first.id).progress is None
    assert [(one.number, one.outcome) for one in books.attempts(first.id)] == [(1, "lost"), (2, None)]


def test_three_processes_that_claim_from_one_file_never_claim_a_job_twice(
    books: Books, processes: Processes, path: Path
) -> None:
    books.submit(*[new(priority=number % 5) for number in range(600)])
    holders = [books.register() for _ in range(3)]
    claimed = processes.together(*[(work.claim_all, url_of(path), holder, 7) for holder in holders])
    counted = Counter(job_id for each in claimed for job_id in each)
    assert counted == dict.fromkeys(range(1, 601), 1)
    for holder, each in zip(holders, claimed, strict=True):
        with books.read() as connection:
            assert sorted(moves.held(connection, holder)) == [(job_id, 1) for job_id in sorted(each)]


# -- what was lost -------------------------------------------------------------------------------


def lost(books: Books) -> list[Lost]:
    with books.read() as connection:
        return lost_of.lost(connection)


def lose(books: Books, times: int, **more: Any) -> list[Claimed]:
    """Submit and claim jobs one after another, then lose them together, each with its turn."""
    claimed = []
    for _ in range(times):
        books.later(1)
        claimed.append(books.running(**more))
    books.report(*(books.end_of(one, Ending.LOST, turn=turn) for turn, one in enumerate(claimed[::-1])))
    return claimed


def test_the_queued_that_were_lost_are_known_the_youngest_first(books: Books) -> None:
    first, second, third = lose(books, 3)
    turns = {
        third.id: None,
        second.id: books.now + timedelta(seconds=3),
        first.id: books.now + timedelta(seconds=6),
    }
    expected = [Lost(job_id, due_at, books.dispatcher_id, 2) for job_id, due_at in turns.items()]
    assert lost(books) == expected
    books.later(4)
    books.claim(tasks=["unknown"])  # the second is due now
    assert lost(books) == [expected[0], expected[1]._replace(due_at=None), expected[2]]


def test_of_the_queued_only_those_whose_last_attempt_was_lost_are(books: Books) -> None:
    for ending in (Ending.RELEASED, Ending.CRASHED, Ending.EXCEPTION):
        (once_lost,) = lose(books, 1, retries=1)
        (claimed,) = books.claim(limit=1)
        assert claimed.id == once_lost.id
        books.report(books.end_of(claimed, ending))
        assert books.job(claimed.id).state is State.QUEUED
        assert lost(books) == []
        books.cancel(claimed.id)
    books.queued()
    books.queued(run_at=books.now + timedelta(seconds=1))
    assert lost(books) == []


def test_one_that_somebody_has_asked_for_again_is_not_among_them(books: Books) -> None:
    (claimed,) = lose(books, 1, crash_retries=0)
    books.requeue(claimed.id)
    assert (books.job(claimed.id).state, lost(books)) == (State.QUEUED, [])


def test_what_was_lost_waits_as_long_as_it_is_told(books: Books) -> None:
    running = books.running()
    (claimed,) = lose(books, 1)
    until = books.now + timedelta(seconds=9)
    with books.store.write(durable=False) as connection:
        postpone(connection, {claimed.id: until, running.id: until})
        postpone(connection, {})
    assert (books.job(claimed.id).due_at, books.job(running.id).due_at) == (until, None)
    assert books.claim() == []
    books.later(9)
    assert ids(books.claim()) == [claimed.id]


def test_of_a_long_queue_only_those_that_start_next_are_looked_at_for_the_lost(books: Books) -> None:
    lose(books, 1)
    books.submit(*[new(priority=1_000_001)] * LOST_AMONG)
    assert lost(books) == []  # it would not start next
