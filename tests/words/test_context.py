import os
import subprocess
import sys
import time

import pytest

from jobrunner import current_job
from jobrunner.tasks import context
from jobrunner.tasks.context import PROGRESS_SECONDS, CurrentJob
from tests.waiting import eventually

Said = tuple[float, float | None, str | None]


def listening(said: list[Said]) -> CurrentJob:
    """A job whose progress is written down in `said`."""
    return CurrentJob(id=7, attempt=2, _tell=lambda *word: said.append(word))


def test_outside_a_job_there_is_one_without_an_id() -> None:
    assert (current_job().id, current_job().attempt) == (None, 0)


def test_outside_a_job_progress_is_harmless() -> None:
    before = current_job()
    before.progress(1, 2, "half")
    before.flush()
    assert current_job() is before
    assert (before.id, before.attempt) == (None, 0)


@pytest.mark.usefixtures("job")
def test_inside_a_job_its_id_and_attempt_are_known() -> None:
    entered = listening([])
    context.enter(entered)
    assert current_job() is entered
    assert (current_job().id, current_job().attempt) == (7, 2)


def test_the_first_progress_is_told_at_once() -> None:
    said: list[Said] = []
    listening(said).progress(1, 20, "epoch 1")
    assert said == [(1, 20, "epoch 1")]


def test_progress_needs_neither_a_total_nor_a_message() -> None:
    said: list[Said] = []
    listening(said).progress(0.5)
    assert said == [(0.5, None, None)]


def test_progress_that_comes_fast_is_told_at_most_twenty_times_a_second() -> None:
    said: list[Said] = []
    job = listening(said)
    started = time.monotonic()
    for done in range(20_000):
        job.progress(done, 20_000)
    elapsed = time.monotonic() - started
    assert len(said) <= 1 + elapsed / PROGRESS_SECONDS
    assert said == sorted(said)


def test_the_last_word_is_never_dropped() -> None:
    said: list[Said] = []
    job = listening(said)
    for done in range(101):
        job.progress(done, 100)
    job.flush()
    assert said[-1] == (100, 100, None)


def test_a_last_word_that_was_told_is_not_told_twice() -> None:
    said: list[Said] = []
    job = listening(said)
    job.progress(1)
    job.flush()
    job.flush()
    assert said == [(1, None, None)]


def test_progress_that_comes_slowly_is_told_each_time() -> None:
    said: list[Said] = []
    job = listening(said)

    def told_again() -> bool:
        before = len(said)
        job.progress(before)
        return len(said) > before

    for _ in range(3):
        eventually(told_again)
    assert [done for done, _, _ in said] == [0, 1, 2]


def test_a_job_that_was_silenced_says_nothing_more() -> None:
    """What a thread that it left behind still tells belongs to no job."""
    said: list[Said] = []
    job = listening(said)
    job.progress(1)
    job.silence()
    job.progress(2)
    job.flush()
    assert said == [(1, None, None)]


IN_A_FORKED_CHILD = """
import os
from jobrunner import current_job
from jobrunner.tasks import context

job = context.CurrentJob(1, 1, lambda *word: print(os.getpid(), *word, flush=True))
context.enter(job)
current_job().progress(1)
if os.fork() == 0:
    current_job().progress(2)
    current_job().flush()
    os._exit(0)
os.wait()
current_job().progress(3)
current_job().flush()
print(os.getpid(), "end")
"""


def test_a_forked_helper_of_a_task_says_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IN_A_FORKED_CHILD], check=True, capture_output=True, text=True, timeout=60
    )
    words = [line.split() for line in ran.stdout.splitlines()]
    assert [word[1] for word in words] == ["1", "3", "end"]
    assert len({word[0] for word in words}) == 1
    assert words[0][0] != str(os.getpid())
