"""Dispatchers that died or hang, jobs that nobody runs."""

from datetime import datetime

from jobrunner.doctor.findings import Said, Told, ok, serious, warning
from jobrunner.doctor.situation import Situation
from jobrunner.lifecycle import State
from jobrunner.store import checkup, jobs, moves
from jobrunner.store.dispatchers import Dispatcher

FULL_SHARE = 0.9  #: of max_queued


def check(situation: Situation) -> Told:
    """Who lives, and who is dead and still holds jobs."""
    if not situation.is_readable:
        return
    living = {one.id for one in situation.living}
    for one in situation.dispatchers:
        if one.id not in living:
            yield _dead(situation, one)
    if living:
        workers = sum(one.workers for one in situation.living)
        yield ok(f"{_count(len(living), 'dispatcher')} alive, with {_count(workers, 'worker')}")
    elif not situation.dispatchers:
        yield ok("none runs")


def _dead(situation: Situation, one: Dispatcher) -> Said:
    with situation.store.read() as connection:
        held = len(moves.held(connection, one.id))
    who = f"dispatcher {one.id} (pid {one.pid} on {one.host})"
    silent = f"no sign of life for {_ago(one.heartbeat_at, situation.now)}"
    jobs_of_it = _count(held, "job")
    if one.id in situation.gone:
        if held and not situation.living:
            return serious(
                f"{who} was killed, {silent}; start any dispatcher: it runs the {jobs_of_it} of this one"
            )
        return warning(
            f"{who} was killed, {silent}; the next dispatcher gives {jobs_of_it} back and closes its entry"
        )
    if one in situation.here:
        remedy = f"it hangs, or is stopped: kill -CONT {one.pid}, or else kill -KILL {one.pid}"
    else:
        remedy = "any other dispatcher takes its jobs over: start one"
    return serious(f"{who} holds {jobs_of_it} and gives {silent}; {remedy}")


def queue(situation: Situation) -> Told:
    """Whether what is queued will run."""
    if not situation.is_readable:
        return
    with situation.store.read() as connection:
        count = jobs.counts(connection).get(State.QUEUED, 0)
        waiting = checkup.queued(connection)
        served = checkup.published(connection, [one.id for one in situation.living])
        oldest_at = jobs.oldest_queued_at(connection)
    most = situation.settings.max_queued
    if count >= FULL_SHARE * most:
        grade = serious if count >= most else warning
        yield grade(
            f"{count} of at most {most} jobs are queued, more are refused: raise max_queued, or add workers",
        )
    if not count or oldest_at is None:
        yield ok("nothing is queued")
        return
    said = f"{_count(count, 'job')} queued, the oldest for {_ago(oldest_at, situation.now)}"
    if not situation.living:
        remedy = f"systemctl start {situation.unit.name}" if situation.unit_serves else "jobrunner serve"
        yield serious(f"{said}, and no dispatcher runs: {remedy}")
        return
    if orphaned := sorted(waiting.keys() - served):
        jobs_of_these = sum(waiting[name] for name in orphaned)
        yield warning(
            f"{_count(jobs_of_these, 'job')} wait for tasks that nobody serves ({_listed(orphaned)}): "
            "add their modules to `tasks`, or cancel the jobs"
        )
    yield ok(said)


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _ago(then: datetime, now: datetime) -> str:
    seconds = max(0, (now - then).total_seconds())
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return _count(round(seconds), "second")
