"""What the journal allows of a job: after what was asked, what was answered, and what nobody answered."""

from collections.abc import Sequence
from typing import Any

import pytest

from jobrunner.lifecycle import State
from jobrunner.selftest.audit import expect
from jobrunner.selftest.journal import Deed

RUNS: dict[str, Any] = {"task": "selftest.squares", "params": {}, "crash_retries": 9}
ONCE: dict[str, Any] = {"task": "selftest.stream", "params": {}, "crash_retries": 0}
FAILS_IN_PART: dict[str, Any] = {
    "task": "selftest.item",
    "params": {"fail_each": 7},
    "crash_retries": 9,
    "map": {"index": {"range": [0, 9]}},
}
FAILS: dict[str, Any] = {"task": "selftest.fail", "params": {}, "crash_retries": 9}

SUCCEEDED, FAILED, CANCELLED = State.SUCCEEDED, State.FAILED, State.CANCELLED

CANCELLED_QUEUED = Deed("cancel", 200, "cancelled", 2)
STOPPING = Deed("cancel", 202, "running", 5)
TOO_LATE = Deed("cancel", 409, None, None)
CANCEL_UNANSWERED = Deed("cancel", None, None, None)
SEEN_CANCELLED = Deed("look", 200, "cancelled", 6)
SEEN_RUNNING = Deed("look", 200, "running", 4)
SEEN_FAILED = Deed("look", 200, "failed", 8)
QUEUED_AGAIN = Deed("retry", 202, "queued", 9)
NOT_AGAIN = Deed("retry", 409, None, None)
RETRY_UNANSWERED = Deed("retry", 503, None, None)


@pytest.mark.parametrize(
    ("wish", "deeds", "states", "seen"),
    [
        (RUNS, [], {SUCCEEDED}, None),
        (ONCE, [], {SUCCEEDED, FAILED}, None),
        (FAILS, [], {FAILED}, None),
        (FAILS_IN_PART, [], {FAILED}, None),
        (RUNS, [SEEN_RUNNING], {SUCCEEDED}, None),
        (RUNS, [CANCELLED_QUEUED], {SUCCEEDED, CANCELLED}, (CANCELLED, 2)),
        (RUNS, [STOPPING], {SUCCEEDED, CANCELLED}, None),
        (RUNS, [STOPPING, SEEN_CANCELLED], {SUCCEEDED, CANCELLED}, (CANCELLED, 6)),
        (RUNS, [TOO_LATE], {SUCCEEDED}, None),
        (RUNS, [CANCEL_UNANSWERED], {SUCCEEDED, CANCELLED}, None),
        (FAILS, [SEEN_FAILED], {FAILED}, (FAILED, 8)),
        (FAILS, [SEEN_FAILED, NOT_AGAIN], {FAILED}, (FAILED, 8)),
        (FAILS, [SEEN_FAILED, QUEUED_AGAIN], {FAILED}, None),
        (RUNS, [CANCELLED_QUEUED, QUEUED_AGAIN], {SUCCEEDED}, None),
        (RUNS, [CANCELLED_QUEUED, RETRY_UNANSWERED], {SUCCEEDED, CANCELLED}, None),
        (FAILS, [SEEN_FAILED, RETRY_UNANSWERED, SEEN_FAILED], {FAILED}, None),
        (RUNS, [CANCEL_UNANSWERED, SEEN_CANCELLED, QUEUED_AGAIN], {SUCCEEDED, CANCELLED}, None),
    ],
)
def test_what_may_have_become_of_a_job(
    wish: dict[str, Any], deeds: Sequence[Deed], states: set[State], seen: tuple[State, int] | None
) -> None:
    said = expect(wish, deeds)
    assert (set(said.states), said.seen) == (states, seen)
