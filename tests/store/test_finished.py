"""Which jobs have finished: asked again and again while somebody waits."""

from typing import Any

from sqlalchemy import event as engine_event
from sqlalchemy import insert

from jobrunner.lifecycle import Ending
from jobrunner.store import jobs
from jobrunner.store.tables import removal
from tests.store.books import Books

RUN = ("run", "a")


def finished(books: Books, *ranges: tuple[int, int], limit: int = 1000) -> list[int]:
    with books.read() as connection:
        return sorted(one.id for one in jobs.finished(connection, RUN, ranges, limit))


def test_jobs_are_found_in_all_of_the_ranges_up_to_the_limit(books: Books) -> None:
    ids = [books.finished(Ending.SUCCEEDED, labels=dict([RUN])) for _ in range(6)]
    assert finished(books, *((one, one) for one in ids[::2])) == ids[::2]
    assert finished(books, (ids[1], ids[2]), (ids[4], 10**18)) == [*ids[1:3], *ids[4:]]
    assert len(finished(books, (1, 3), (4, 6), limit=4)) == 4
    assert finished(books) == []


def test_a_job_that_is_being_removed_is_not_told(books: Books) -> None:
    stays, goes = (books.finished(Ending.SUCCEEDED, labels=dict([RUN])) for _ in "12")
    with books.store.write(durable=False) as connection:
        connection.execute(insert(removal), [{"job_id": goes}])
    assert finished(books, (1, 10**18)) == [stays]


def test_other_peoples_jobs_and_large_rows_are_not_read(books: Books) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _d: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    books.running(labels=dict([RUN]))
    engine_event.listen(books.store.engine, "before_cursor_execute", note)
    assert finished(books, *((one, one) for one in range(1, 1001))) == []
    engine_event.remove(books.store.engine, "before_cursor_execute", note)
    ((statement, parameters),) = asked  # however many ranges there are
    with books.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        steps = [detail.partition(" (")[0] for detail in plan.scalars("detail")]
    found = [step for step in steps if step.startswith(("SCAN", "SEARCH")) and "removal" not in step]
    assert found == [
        "SCAN span VIRTUAL TABLE INDEX 1:",
        "SEARCH label USING COVERING INDEX ix_label_key_value_job_id",
        "SEARCH job USING COVERING INDEX ix_job_state",
    ]
