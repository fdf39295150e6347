"""The audit can fail: each line names the jobs of what must not have happened, and no other line does."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobrunner.lifecycle import Ending
from jobrunner.reports import EventKind
from jobrunner.selftest import wishes
from jobrunner.selftest.audit import Line
from tests.selftest.evidence import ITEMS, Evidence


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Evidence]:
    made = Evidence(tmp_path)
    yield made
    made.end_all()


def test_nothing_is_found_where_all_went_as_it_should(evidence: Evidence) -> None:
    evidence.look(evidence.succeeded())
    evidence.succeeded(key="k")
    evidence.look(evidence.failed())
    evidence.look(evidence.swept())
    once = evidence.submit("squares", crash_retries=0)
    evidence.end(evidence.claim(), Ending.LOST)
    evidence.look(once)
    cancelled = evidence.submit()
    evidence.books.cancel(cancelled)
    evidence.look(cancelled, "cancel")
    evidence.journal.asked([evidence.wish()], None)  # never answered, never stored
    unanswered = evidence.wish()
    evidence.journal.asked([unanswered], None)
    evidence.store_it(unanswered)
    evidence.end(evidence.claim(), Ending.SUCCEEDED, partials=3)
    assert evidence.findings() == []


# -- crimes: each returns whom the audit must name ----------------------------------------------


def a_job_is_gone(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded()
    evidence.change("DELETE FROM job WHERE id = ?", job_id)
    return {job_id}


def a_job_was_stored_as_another(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded()
    evidence.change("UPDATE job SET params = json_set(params, '$.n', 4) WHERE id = ?", job_id)
    return {job_id}


def a_job_never_ran(evidence: Evidence) -> set[int | None]:
    return {evidence.submit()}


def a_submission_was_stored_twice(evidence: Evidence) -> set[int | None]:
    wish = evidence.wish()
    evidence.journal.asked([wish], None)
    ids = {evidence.store_it(wish), evidence.store_it(wish)}
    evidence.end(evidence.claim(), Ending.SUCCEEDED, partials=3)
    evidence.runs.unlink()  # that it also ran twice is another line
    evidence.end(evidence.claim(), Ending.SUCCEEDED, partials=3)
    return {*ids}


def an_attempt_ended_twice(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded()
    evidence.tell(job_id, EventKind.STATE, '{"state":"succeeded"}')
    return {job_id}


def a_partial_result_is_gone(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded()
    evidence.change("DELETE FROM event WHERE job_id = ? AND seq = 4", job_id)
    return {job_id}


def partial_results_changed_places(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded()
    evidence.change(
        "UPDATE event SET data = (SELECT data FROM event AS other WHERE other.job_id = event.job_id"
        " AND other.seq = 19 - event.seq) WHERE job_id = ? AND seq IN (9, 10)",
        job_id,
    )
    return {job_id}


def a_partial_result_of_another_attempt_was_taken(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded()
    evidence.change(
        "UPDATE event SET data = json_set(data, '$.attempt', 1) WHERE job_id = ? AND seq = 9", job_id
    )
    return {job_id}


def the_last_partial_result_never_came(evidence: Evidence) -> set[int | None]:
    job_id = evidence.submit()
    evidence.end(evidence.claim(), Ending.SUCCEEDED, partials=2)
    return {job_id}


def not_one_partial_result_came(evidence: Evidence) -> set[int | None]:
    job_id = evidence.submit()
    evidence.end(evidence.claim(), Ending.SUCCEEDED)
    return {job_id}


def a_partial_result_came_after_the_end(evidence: Evidence) -> set[int | None]:
    job_id = evidence.submit("squares")
    evidence.end(evidence.claim(), Ending.SUCCEEDED)
    evidence.tell(job_id, EventKind.LOG, "late")
    return {job_id}


def a_job_that_was_seen_at_its_end_ran_again(evidence: Evidence) -> set[int | None]:
    job_id = evidence.failed()
    evidence.look(job_id)
    evidence.books.requeue(job_id)
    evidence.end(evidence.claim(), Ending.EXCEPTION)
    return {job_id}


def a_result_is_wrong(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded()
    evidence.change("UPDATE job SET result = json_set(result, '$.sum', 15) WHERE id = ?", job_id)
    return {job_id}


def a_result_is_that_of_another_attempt(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded()
    evidence.change("UPDATE job SET result = json_set(result, '$.attempt', 1) WHERE id = ?", job_id)
    return {job_id}


def a_job_failed_that_must_not(evidence: Evidence) -> set[int | None]:
    job_id = evidence.submit("squares")
    evidence.end(evidence.claim(), Ending.UNSERIALIZABLE)
    return {job_id}


def a_job_failed_by_another_kind_of_error(evidence: Evidence) -> set[int | None]:
    job_id = evidence.submit("squares", crash_retries=0)
    evidence.end(evidence.claim(), Ending.EXCEPTION)
    return {job_id}


def a_job_was_cancelled_by_nobody(evidence: Evidence) -> set[int | None]:
    job_id = evidence.submit()
    evidence.books.cancel(job_id)
    return {job_id}


def a_job_still_runs(evidence: Evidence) -> set[int | None]:
    job_id = evidence.submit()
    evidence.claim()
    return {job_id}


def its_dispatcher_has_ended(evidence: Evidence) -> set[int | None]:
    job_id = a_job_still_runs(evidence)
    evidence.books.end_dispatcher(evidence.books.dispatcher_id)
    evidence.books.dispatcher_id = evidence.books.register()
    return job_id


def a_job_ran_twice(evidence: Evidence) -> set[int | None]:
    job_id = evidence.submit("squares", crash_retries=0)
    evidence.end(evidence.claim(), Ending.LOST)
    evidence.books.requeue(job_id)
    evidence.end(evidence.claim(), Ending.LOST)
    return {job_id}


def an_attempt_ran_twice(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded()
    evidence.runs.write_text(evidence.runs.read_text() + "a-1 2\n")
    return {job_id}


def somebody_ran_what_nobody_asked_for(evidence: Evidence) -> set[int | None]:
    evidence.succeeded()
    evidence.runs.write_text(evidence.runs.read_text() + "stranger-1 1\n")
    return {None}


def an_item_ran_twice(evidence: Evidence) -> set[int | None]:
    evidence.swept()
    once = evidence.submit("item", crash_retries=0)
    claimed = evidence.claim_map()
    evidence.run_items(claimed, *range(ITEMS))
    evidence.close(claimed)
    evidence.runs.write_text(evidence.runs.read_text() + f"a-{once}/2 1\n")
    return {once}


def an_item_of_another_attempt_was_taken(evidence: Evidence) -> set[int | None]:
    job_id = evidence.swept()
    evidence.change(
        "UPDATE event SET data = json_set(data, '$[0].attempt', 1) WHERE job_id = ? AND item = 2", job_id
    )
    return {job_id}


def items_changed_places(evidence: Evidence) -> set[int | None]:
    job_id = evidence.swept()
    evidence.change("UPDATE event SET item = 5 - item WHERE job_id = ? AND item >= 2", job_id)
    return {job_id}


def an_item_was_recorded_twice(evidence: Evidence) -> set[int | None]:
    job_id = evidence.submit("item")
    claimed = evidence.claim_map()
    evidence.run_items(claimed, 0, 1, 2, 3)
    evidence.run_items(claimed, 1)
    evidence.change("UPDATE map_job SET done = 4 WHERE job_id = ?", job_id)
    evidence.close(claimed)
    evidence.change("UPDATE map_job SET done = 5 WHERE job_id = ?", job_id)
    return {job_id}


def an_item_was_not_recorded(evidence: Evidence) -> set[int | None]:
    job_id = evidence.submit("item")
    claimed = evidence.claim_map()
    evidence.run_items(claimed, 0, 1, 2)
    evidence.change("UPDATE map_job SET done = 4 WHERE job_id = ?", job_id)
    evidence.close(claimed)
    evidence.change("UPDATE map_job SET done = 3 WHERE job_id = ?", job_id)
    return {job_id}


def a_chunk_is_still_in_hand(evidence: Evidence) -> set[int | None]:
    job_id = evidence.swept()
    evidence.change("INSERT INTO chunk VALUES (?, 0, 4)", job_id)
    return {job_id}


def a_key_made_two_jobs(evidence: Evidence) -> set[int | None]:
    wish = evidence.wish("squares")
    number = evidence.journal.asked([wish], "k")
    ids = [evidence.store_it(wish), evidence.store_it(wish)]
    evidence.journal.acknowledge(number, [ids[0]], replayed=False)
    for _ in ids:
        evidence.runs.unlink(missing_ok=True)
        evidence.end(evidence.claim(), Ending.SUCCEEDED)
    return {*ids}


def a_key_gave_back_another_job(evidence: Evidence) -> set[int | None]:
    other = evidence.succeeded()
    evidence.succeeded(key="k")
    evidence.journal.acknowledge(2, [other], replayed=True)
    return {other}


def a_replay_was_not_marked(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded(key="k")
    evidence.journal.acknowledge(1, [job_id], replayed=False)
    return {job_id}


def the_tally_is_not_the_count(evidence: Evidence) -> set[int | None]:
    evidence.succeeded()
    evidence.change("UPDATE tally SET jobs = jobs + 1 WHERE state = 'queued'")
    return {None}


def a_job_was_asked_for_by_nobody(evidence: Evidence) -> set[int | None]:
    job_id = evidence.store_it(evidence.wish())
    evidence.end(evidence.claim(), Ending.SUCCEEDED, partials=3)
    evidence.runs.unlink()
    return {job_id}


def half_a_batch_was_stored(evidence: Evidence) -> set[int | None]:
    first, second = evidence.wish(), evidence.wish()
    second["params"] = {**second["params"], "stamp": "second"}
    evidence.journal.asked([first, second], None)
    evidence.store_it(first)
    evidence.end(evidence.claim(), Ending.SUCCEEDED, partials=3)
    return {None}


def a_row_breaks_a_rule(evidence: Evidence) -> set[int | None]:
    job_id = evidence.succeeded()
    evidence.change("UPDATE job SET cancel_grace_seconds = 1 WHERE id = ?", job_id, rules=False)
    return {None}


CRIMES: list[tuple[Line, Callable[[Evidence], set[int | None]]]] = [
    (Line.LOST, a_job_is_gone),
    (Line.LOST, a_job_was_stored_as_another),
    (Line.LOST, a_job_never_ran),
    (Line.TWICE, a_submission_was_stored_twice),
    (Line.TWICE, an_attempt_ended_twice),
    (Line.PARTIALS, a_partial_result_is_gone),
    (Line.PARTIALS, partial_results_changed_places),
    (Line.PARTIALS, a_partial_result_of_another_attempt_was_taken),
    (Line.PARTIALS, the_last_partial_result_never_came),
    (Line.PARTIALS, not_one_partial_result_came),
    (Line.AFTER_FINAL, a_partial_result_came_after_the_end),
    (Line.AFTER_FINAL, a_job_that_was_seen_at_its_end_ran_again),
    (Line.WRONG, a_result_is_wrong),
    (Line.WRONG, a_result_is_that_of_another_attempt),
    (Line.WRONG, a_job_failed_that_must_not),
    (Line.WRONG, a_job_failed_by_another_kind_of_error),
    (Line.WRONG, a_job_was_cancelled_by_nobody),
    (Line.UNATTENDED, a_job_still_runs),
    (Line.OTHER, somebody_ran_what_nobody_asked_for),
    (Line.UNATTENDED, its_dispatcher_has_ended),
    (Line.ONCE, a_job_ran_twice),
    (Line.ONCE, an_attempt_ran_twice),
    (Line.ONCE, an_item_ran_twice),
    (Line.WRONG, an_item_of_another_attempt_was_taken),
    (Line.WRONG, items_changed_places),
    (Line.TWICE, an_item_was_recorded_twice),
    (Line.LOST, an_item_was_not_recorded),
    (Line.OTHER, a_chunk_is_still_in_hand),
    (Line.KEY, a_key_made_two_jobs),
    (Line.KEY, a_key_gave_back_another_job),
    (Line.KEY, a_replay_was_not_marked),
    (Line.OTHER, the_tally_is_not_the_count),
    (Line.OTHER, a_job_was_asked_for_by_nobody),
    (Line.OTHER, half_a_batch_was_stored),
    (Line.FILE, a_row_breaks_a_rule),
]


@pytest.mark.parametrize(("line", "crime"), CRIMES, ids=[crime.__name__ for _, crime in CRIMES])
def test_it_names_whom_it_concerns_in_the_one_line_that_fits(
    evidence: Evidence, line: Line, crime: Callable[[Evidence], set[int | None]]
) -> None:
    named = crime(evidence)
    evidence.succeeded()  # beside them somebody whom nothing is wrong with
    assert evidence.found() == {line: named}, evidence.findings()


def test_every_line_but_that_of_the_processes_was_tried() -> None:
    assert {line for line, _ in CRIMES} == set(Line) - {Line.ORPHANS}


def test_what_the_audit_expects_is_what_the_tasks_do() -> None:
    params = {"stamp": "s", "n": 50}
    wish = {"task": "selftest.stream", "params": params}
    sums = [sum(number * number for number in range(1, n + 1)) for n in range(1, 51)]
    assert [one["sum"] for one in wishes.partials(wish, 2)] == sums
    assert wishes.result(wish, 2) == {"stamp": "s", "attempt": 2, "sum": sums[-1]}
    assert json.dumps(wishes.partials({**wish, "task": "selftest.squares"}, 2)) == "[]"
    mapped = {"task": "selftest.item", "params": params, "map": {"index": {"range": [0, 3]}}}
    assert wishes.value(mapped, 2, 0) == {"stamp": "s", "attempt": 2, "sum": sums[-1], "index": 0}
    assert wishes.result(mapped, 2) is None
    added = sums[-1] * 3 + 51**2 * 2 + 52**2
    assert wishes.result({**mapped, "reduce": {}}, 2) == {"stamp": "s", "attempt": 2, "sum": added}
