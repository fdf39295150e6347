"""A selftest with one deed: the dispatcher of a running job stands still until another has run the job again.

usage: one_stands_still.py FOLDER

Its worker and its result writer go on, and speak for an attempt that is lost.  Prints the audit's lines; the exit
status is that of `jobrunner selftest`.
"""

import random
import signal
import sys
from pathlib import Path

from jobrunner.cli.selftest import report
from jobrunner.lifecycle import State
from jobrunner.selftest.journal import Journal
from jobrunner.selftest.members import Member
from jobrunner.selftest.roles import Role
from jobrunner.selftest.run import Outcome, audited
from jobrunner.selftest.stage import Stage
from jobrunner.selftest.traffic import Door
from jobrunner.selftest.wishes import Wishes
from jobrunner.store import attempts, dispatchers, jobs
from jobrunner.store.jobs import Job
from tests.waiting import eventually

STEPS = 130  #: of 50 ms: longer than it takes to find the job lost and to run it again for a while


def main(folder: Path) -> int:
    with Stage(folder) as stage, Journal(stage.journal) as journal:
        stage.wait_until_ready()
        job_id = submit(stage, journal)
        eventually(lambda: job(stage, job_id).partials >= 5, 30)
        holder = dispatcher(stage, job_id)
        assert stage.send(holder, signal.SIGSTOP)
        eventually(lambda: job(stage, job_id).attempt == 2 and job(stage, job_id).is_final, 60)
        assert stage.send(holder, signal.SIGCONT)
        stage.stop()
        assert stage.left() == []
        outcome = Outcome(journal.acknowledged, audited(stage))
    print(*report(outcome), sep="\n")  # noqa: T201 - what the test reads
    return 1 if outcome.findings else 0


def submit(stage: Stage, journal: Journal) -> int:
    wish = Wishes("a").make(random.Random(0))
    wish |= {"task": "selftest.stream", "retries": 9, "crash_retries": 9, "delay_seconds": 0}
    wish["params"] |= {"n": STEPS, "pause_seconds": 0.05}
    number = journal.asked([wish], None)
    answer = Door(stage.sides[0].port).call("POST", "/jobs", wish)
    job_id: int = answer.value["id"]
    journal.acknowledge(number, [job_id], replayed=False)
    return job_id


def job(stage: Stage, job_id: int) -> Job:
    with stage.store.read() as connection:
        return jobs.get(connection, job_id)


def dispatcher(stage: Stage, job_id: int) -> Member:
    """Return the dispatcher in whose hands the job is."""
    with stage.store.read() as connection:
        assert jobs.get(connection, job_id).state is State.RUNNING
        holder = attempts.of_job(connection, job_id)[-1].dispatcher_id
        pid = next(one.pid for one in dispatchers.alive(connection) if one.id == holder)
    return next(member for member in stage.cast()[Role.DISPATCHER] if member.pid == pid)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
