"""The tally: how many jobs of each queue are in each state, for to count a million rows would cost a scan.

Whoever adds jobs or moves them says so here, in the same transaction, all of a batch at once: a trigger counts one row
at a time, which makes a move half as dear again.  It counts only what is deleted.  What nobody has counted, the audit
finds.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, select
from sqlalchemy.dialects.sqlite import insert

from jobrunner.lifecycle import State
from jobrunner.store.quick import Quick, QuickMany
from jobrunner.store.tables import job, tally

_NEW: Final = insert(tally)
_ADD: Final = QuickMany(
    _NEW.on_conflict_do_update(
        index_elements=[tally.c.queue, tally.c.state], set_={"jobs": tally.c.jobs + _NEW.excluded.jobs}
    ),
    "queue",
    "state",
    "jobs",
)


def count_moved(connection: Connection, moved: Iterable[tuple[str, State | None, State]]) -> None:
    """Count jobs that have moved.

    Args:
        connection: the write transaction in which they did.
        moved: of each its queue, the state that it has left, which is None if it is new, and the one it is in.
    """
    more: Counter[tuple[str, State]] = Counter()
    for (queue, left, entered), jobs in Counter(moved).items():
        more[queue, entered] += jobs
        if left is not None:
            more[queue, left] -= jobs
    rows = [{"queue": queue, "state": state.value, "jobs": jobs} for (queue, state), jobs in more.items()]
    _ADD.execute(connection, rows)


_QUEUED: Final = Quick(select(job.c.queue).where(job.c.state == State.QUEUED.value))
_TOLD: Final = select(tally.c.queue, tally.c.jobs).where(tally.c.state == State.QUEUED.value)


def mend_queued(connection: Connection) -> dict[str, int]:
    """Count anew what is queued, for nobody looks for jobs in a queue where none is counted.

    Only a program of an older version or a hand in the database moves jobs uncounted.

    Returns:
        By how much the count of each queue was wrong, of those where it was.
    """
    wrong = Counter(queue for (queue,) in _QUEUED.rows(connection))
    for queue, jobs in connection.execute(_TOLD):
        wrong[queue] -= jobs
    found = {queue: jobs for queue, jobs in wrong.items() if jobs}
    _ADD.execute(
        connection,
        [{"queue": queue, "state": State.QUEUED.value, "jobs": jobs} for queue, jobs in found.items()],
    )
    return found
