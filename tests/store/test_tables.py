"""What the tables refuse, whatever the code says."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import IntegrityError

from jobrunner.lifecycle import Ending
from jobrunner.store.tables import Moment
from tests.store.books import Books

QUEUED, RUNNING, SUCCEEDED, FAILED = 1, 2, 3, 4


@pytest.fixture
def one_of_each(books: Books) -> Books:
    """Jobs 1 to 4: queued, running, succeeded and failed."""
    books.queued()
    books.running(labels={"who": "me"})
    books.finished(Ending.SUCCEEDED)
    books.finished(Ending.EXCEPTION)
    return books


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("UPDATE job SET state = 'asleep' WHERE id = 1", "ck_job_state"),
        ("UPDATE job SET state = 'running' WHERE id = 1", "ck_job_running_is_held"),
        ("UPDATE job SET dispatcher_id = 1 WHERE id = 1", "ck_job_running_is_held"),
        ("UPDATE job SET dispatcher_id = NULL WHERE id = 2", "ck_job_running_is_held"),
        ("UPDATE job SET state = 'cancelled' WHERE id = 1", "ck_job_final_is_finished"),
        ("UPDATE job SET finished_at = 1 WHERE id = 1", "ck_job_final_is_finished"),
        ("UPDATE job SET finished_at = NULL WHERE id = 4", "ck_job_final_is_finished"),
        ("UPDATE job SET result = NULL WHERE id = 3", "ck_job_succeeded_has_result"),
        ("UPDATE job SET result = '1' WHERE id = 4", "ck_job_succeeded_has_result"),
        ("UPDATE job SET due_at = 1 WHERE id = 2", "ck_job_only_queued_is_due"),
        ("UPDATE job SET cancel_grace_seconds = 1 WHERE id = 1", "ck_job_only_running_is_stopped"),
        ("UPDATE job SET dispatcher_id = 99 WHERE id = 2", "FOREIGN KEY"),
        ("UPDATE attempt SET outcome = 'bored', finished_at = 1 WHERE job_id = 2", "ck_attempt_outcome"),
        ("UPDATE attempt SET outcome = 'lost' WHERE job_id = 2", "ck_attempt_ended_is_finished"),
        ("UPDATE attempt SET finished_at = 1 WHERE job_id = 2", "ck_attempt_ended_is_finished"),
        ("UPDATE event SET kind = 'rumour' WHERE job_id = 1", "ck_event_kind"),
        ("UPDATE event SET job_id = 99 WHERE job_id = 1", "FOREIGN KEY"),
        ("UPDATE event SET seq = 1 WHERE job_id = 2", "UNIQUE constraint failed: event"),
        ("INSERT INTO attempt SELECT * FROM attempt WHERE job_id = 2", "UNIQUE constraint failed: attempt"),
        (
            "INSERT INTO label (job_id, key, value) VALUES (2, 'who', 'you')",
            "UNIQUE constraint failed: label",
        ),
        ("INSERT INTO tally VALUES ('default', 'asleep', 0)", "ck_tally_state"),
        ("DELETE FROM dispatcher", "FOREIGN KEY"),
    ],
)
def test_the_tables_refuse_what_contradicts_itself(one_of_each: Books, statement: str, rule: str) -> None:
    before = one_of_each.dump()

    def write() -> None:
        with one_of_each.store.write(durable=False) as connection:
            connection.exec_driver_sql(statement)

    with pytest.raises(IntegrityError, match=rule):
        write()
    assert one_of_each.dump() == before


zones = st.timedeltas(-timedelta(hours=23), timedelta(hours=23)).map(timezone)
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=zones)  # noqa: DTZ001 - bounds have none


@given(moments)
def test_a_moment_is_kept_to_the_microsecond_and_comes_back_in_utc(moment: datetime) -> None:
    kept = Moment().process_bind_param(moment, sqlite.dialect())
    found = Moment().process_result_value(kept, sqlite.dialect())
    assert isinstance(kept, int)
    assert found == moment
    assert found is not None
    assert found.tzname() == "UTC"


def test_no_moment_stays_none() -> None:
    assert Moment().process_bind_param(None, sqlite.dialect()) is None
    assert Moment().process_result_value(None, sqlite.dialect()) is None
