"""What becomes of attempts that were in hand when something under them died."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, Report, error


class Victim(NamedTuple):
    """An attempt that goes back to the queue.

    Attributes:
        blame: what died while it ran, if it may have done that; None if it certainly has not.
        worker: the index of the slot that it ran in; None if it had not begun, or nobody has looked.
        peak_memory_bytes: as last seen; None if nobody has looked.
        cpu_seconds: the same.
    """

    job_id: int
    attempt: int
    blame: str | None = None
    worker: int | None = None
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None


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
    pace = min(1.0, workers / max(1, len(blamed)))
    turns = {(one.job_id, one.attempt): place * pace for place, one in enumerate(blamed)}
    return [
        Report(one.job_id, one.attempt, now, (), _ended(one, turns.get((one.job_id, one.attempt), 0.0)))
        for one in victims
    ]


def _ended(one: Victim, turn: float) -> Ended:
    used: dict[str, Any] = {"peak_memory_bytes": one.peak_memory_bytes, "cpu_seconds": one.cpu_seconds}
    if one.blame is None:
        return Ended(Ending.RELEASED, worker=one.worker, **used)
    told = error(Ending.LOST, one.blame, **used)
    return Ended(Ending.LOST, error=told, worker=one.worker, turn=turn, **used)
