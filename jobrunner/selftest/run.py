"""One selftest from its start to its findings: traffic and chaos, a time to settle, a stop, the audit."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobrunner.clock import utc_now
from jobrunner.errors import StoreUnavailableError
from jobrunner.lifecycle import FINAL, State
from jobrunner.selftest import audit, journal
from jobrunner.selftest.audit import Finding, Line
from jobrunner.selftest.chaos import Chaos, decisions
from jobrunner.selftest.journal import Journal
from jobrunner.selftest.stage import Stage, StageError
from jobrunner.selftest.traffic import Traffic
from jobrunner.store import jobs, moves

LOOK_SECONDS: Final = 0.05
TELL_SECONDS: Final = 5.0  #: between two words about how it goes
ANSWER_SECONDS: Final = 120.0  #: for the last submissions to be answered, when nothing disturbs any more
STANDSTILL_SECONDS: Final = 60.0  #: without any job that ends, before the rest counts as lost


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes:
        folder: an empty directory; see `Stage`.
        seconds: of traffic, from when all is ready.
        kill: whether there is chaos, or traffic alone.
    """

    folder: Path
    seconds: float
    seed: int
    kill: bool


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    acknowledged: int
    findings: list[Finding]


def run(plan: Plan, say: Callable[[str], None], is_stopped: Callable[[], bool]) -> Outcome:
    """Run a selftest.

    Args:
        plan: what to do.
        say: takes what people should know, a line at a time.
        is_stopped: asked often; if it says yes, traffic and chaos end at once, and the audit follows.

    Raises:
        JobrunnerError: it came to no findings; the message says why.
    """
    with Stage(plan.folder) as stage:
        say(f"starting two `jobrunner serve` on the store in {stage.folder}; seed {plan.seed}")
        stage.wait_until_ready()
        with Journal(stage.journal) as written:
            _Show(plan, stage, written, say).run(is_stopped)
        say("stopping")
        stage.stop()
        left = [Finding(Line.ORPHANS, None, str(member)) for member in stage.left()]
        say("auditing")
        return Outcome(written.acknowledged, [*audited(stage), *left])


def audited(stage: Stage) -> list[Finding]:
    """Return what is wrong in the store of a stage that was stopped."""
    record = journal.read(stage.journal)
    try:
        with stage.store.read() as connection:
            return list(audit.findings(connection, record, stage.runs))
    except StoreUnavailableError as error:  # damaged beyond reading
        return [Finding(Line.FILE, None, str(error))]


class _Show:
    """What happens on a stage that is ready."""

    def __init__(self, plan: Plan, stage: Stage, written: Journal, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._stage = stage
        self._journal = written
        self._say = say
        ports = [side.port for side in stage.sides]
        self._traffic = Traffic(ports, written, seed=plan.seed)
        self._chaos = Chaos(stage, decisions(plan.seed)) if plan.kill else None
        self._began = time.monotonic()
        self._tell_at = self._began + TELL_SECONDS

    def run(self, is_stopped: Callable[[], bool]) -> None:
        """Let traffic and chaos loose, then wait until all jobs have ended or nothing goes on."""
        try:
            self._traffic.start()
            self._go_on(lambda: is_stopped() or time.monotonic() >= self._began + self._plan.seconds)
            self._tell(time.monotonic() - self._began)
            if self._chaos is not None:
                self._chaos.calm()
                self._chaos = None
            self._traffic.stop()
            give_up_at = time.monotonic() + ANSWER_SECONDS
            self._go_on(lambda: self._traffic.is_over or time.monotonic() >= give_up_at)
            if not self._traffic.is_over:
                raise StageError(f"the API has not answered for {ANSWER_SECONDS:g} s")
            self._go_on(_Settled(self._stage))
        finally:
            self._traffic.give_up()

    def _go_on(self, until: Callable[[], bool]) -> None:
        while not until():
            self._stage.keep()
            self._traffic.check()
            now = time.monotonic()
            if self._chaos is not None:
                self._chaos.step(now)
            if now >= self._tell_at:
                self._tell_at = now + TELL_SECONDS
                self._tell(now - self._began)
            time.sleep(LOOK_SECONDS)
        self._traffic.check()

    def _tell(self, seconds: float) -> None:
        counts = _counts(self._stage)
        ended = "" if counts is None else f", {sum(counts[state] for state in FINAL)} ended"
        hits = "" if self._chaos is None else f", {self._chaos}"
        self._say(f"{seconds:4.0f} s  {self._journal.acknowledged} acknowledged{ended}{hits}")


def _counts(stage: Stage) -> dict[State, int] | None:
    """Return how many jobs are in each state; None if the store cannot say so now."""
    try:
        with stage.store.read() as connection:
            return jobs.counts(connection)
    except StoreUnavailableError:
        return None


class _Settled:
    """Whether every job has ended; or none has for so long that the rest never will."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._ended = -1
        self._give_up_at = time.monotonic() + STANDSTILL_SECONDS

    def __call__(self) -> bool:
        try:
            with self._stage.store.read() as connection:
                counts = jobs.counts(connection)
                due_at = moves.next_due_at(connection)
        except StoreUnavailableError:
            return time.monotonic() >= self._give_up_at
        ended = sum(counts[state] for state in FINAL)
        is_waiting = due_at is not None and due_at > utc_now()  # after crashes a job backs off for minutes
        if ended != self._ended or is_waiting:
            self._ended = ended
            self._give_up_at = time.monotonic() + STANDSTILL_SECONDS
        return ended == sum(counts.values()) or time.monotonic() >= self._give_up_at
