"""What becomes of attempts that were in hand when something under them died."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, Report, error
from jobrunner.retry import APART_SECONDS, CAP_SECONDS
from jobrunner.store.lost import Lost


class Victim(NamedTuple):
    """An attempt that goes back to the queue.

    Attributes:
        blame: what died while it ran, if it may have done that; None if it certainly has not.
        worker: the index of the slot that it ran in; None if it had not begun, or nobody has looked.
        peak_memory_bytes: as last seen; None if nobody has looked.
        cpu_seconds: the same.
        chunks: of a map job: the first items of the chunks to blame; None: all that are in hand.
    """

    job_id: int
    attempt: int
    blame: str | None = None
    worker: int | None = None
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    chunks: tuple[int, ...] | None = None

    def together_with(self, other: "Victim") -> "Victim":
        """Return what two chunks of one attempt, or two looks at it, come to."""
        blamed, rest = (self, other) if self.blame is not None else (other, self)
        return blamed._replace(chunks=(*(blamed.chunks or ()), *(rest.chunks or ())))


def by_attempt(victims: Iterable[Victim]) -> dict[tuple[int, int], Victim]:
    """Return one victim for each attempt, by (job id, attempt)."""
    found: dict[tuple[int, int], Victim] = {}
    for one in victims:
        key = one.job_id, one.attempt
        found[key] = found[key].together_with(one) if key in found else one
    return found


def of_dead(held: Iterable[tuple[int, int]], slots: str, blame: str) -> list[Victim]:
    """Return what a dispatcher that is dead held, with what its last heartbeat said of it.

    All are blamed, also those that waited behind another in a bundle: the heartbeat is too old to tell.

    Args:
        held: (job id, attempt).
        slots: of the last heartbeat, JSON.
        blame: what died.
    """
    seen = {(one["job_id"], one["attempt"]): one for one in json.loads(slots)}
    victims = []
    for job_id, attempt in held:
        slot = seen.get((job_id, attempt), {})
        figures = (slot.get(name) for name in ("worker", "peak_memory_bytes", "cpu_seconds"))
        victims.append(Victim(job_id, attempt, blame, *figures))
    return victims


def reports(victims: Sequence[Victim], workers: int, now: datetime) -> list[Report]:
    """Return how each has ended: those that are blamed are lost, and go on in this order; the others released.

    Of `workers` at most so many have run, but all that short ones travelled with were held: these together wait no
    longer than those that may have run.
    """
    blamed = [one for one in victims if one.blame is not None]
    pace = _pace(workers, len(blamed))
    turns = {(one.job_id, one.attempt): place * pace for place, one in enumerate(blamed)}
    return [
        Report(one.job_id, one.attempt, now, (), _ended(one, turns.get((one.job_id, one.attempt), 0.0)))
        for one in victims
    ]


def apart(lost: Sequence[Lost], now: datetime) -> dict[int, datetime]:
    """Return until when these must wait so as to start one after another, by id; the others stay as they are.

    Their turns were laid from the moment at which they were lost.  To start the dispatcher again may have taken
    longer than that, and all would start at once.  Nobody's turn comes earlier than it was.

    Args:
        lost: what started last first.
        now: when the first may start.
    """
    together = Counter(one.dispatcher_id for one in lost)
    until: dict[int, datetime] = {}
    turn = now
    for one in sorted(lost, key=lambda one: max(one.due_at or now, now)):
        was_due = max(one.due_at or now, now)
        due_at = max(was_due, min(turn, now + timedelta(seconds=CAP_SECONDS)))
        if due_at > was_due:
            until[one.id] = due_at
        turn = due_at + timedelta(seconds=APART_SECONDS * _pace(one.workers, together[one.dispatcher_id]))
    return until


def _pace(workers: int, lost: int) -> float:
    return min(1.0, workers / max(1, lost))


def _ended(one: Victim, turn: float) -> Ended:
    used: dict[str, Any] = {"peak_memory_bytes": one.peak_memory_bytes, "cpu_seconds": one.cpu_seconds}
    if one.blame is None:
        return Ended(Ending.RELEASED, worker=one.worker, **used)
    told = error(Ending.LOST, one.blame, **used)
    return Ended(Ending.LOST, error=told, worker=one.worker, turn=turn, chunks=one.chunks, **used)
