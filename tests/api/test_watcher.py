"""The thread that looks for all who wait: what it looks at, and what it survives."""

import contextlib
import os
import resource
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from jobrunner.api.watcher import ANY_JOB, Watcher
from jobrunner.lifecycle import FINAL, Ending, State
from jobrunner.store.lookout import Lookout, Standing
from jobrunner.wakeup import WATCHERS, wake
from tests.api.world import World
from tests.waiting import eventually


class Watched:
    """A watcher of the world's store, and those who wait for it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.bells = world.settings.data / WATCHERS
        self.make: Callable[[], Lookout] = lambda: Lookout(lambda: world.store)
        self.watcher = Watcher(lambda: self.make(), self.bells, places=9)  # noqa: PLW0108 - it may be another one
        self._threads = ThreadPoolExecutor(9)

    def waits(self, job_id: int) -> "Future[None]":
        """Have somebody wait for news of a job that was just submitted."""
        before = dict(self.watcher._waiters)
        waiting = self._threads.submit(self.wait, job_id, 60)
        eventually(lambda: waiting.done() or self.watcher._waiters != before)
        return waiting

    def wait(self, job_id: int, seconds: float) -> None:
        """Wait for news of a job that was submitted, and has none so far."""
        with self.watcher.waiter(job_id, lambda standing: standing.version > 1) as waiter:
            waiter.wait(seconds)

    def hung(self) -> list[Path]:
        """The bells that hang."""
        return list(self.bells.glob("*.sock"))

    def close(self) -> None:
        self.watcher.close()
        self._threads.shutdown()
        eventually(lambda: self.watcher._thread is None)


@pytest.fixture
def watched(world: World) -> Iterator[Watched]:
    with contextlib.closing(Watched(world)) as made:
        yield made


@contextlib.contextmanager
def no_thread_starts() -> Iterator[None]:
    threading.stack_size(1 << 46)  # there is no room for such a stack
    try:
        yield
    finally:
        threading.stack_size(0)


@contextlib.contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        free = [os.open("/", os.O_RDONLY) for _ in range(number + 1)]
        for descriptor in free:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        yield


# -- what it looks at -------------------------------------------------------------------------------


class Counting(Lookout):
    """Counts its looks, and what it reads."""

    asked = 0
    reads = 0

    def is_changed(self) -> bool:
        self.asked += 1
        return super().is_changed()

    def standings(self, ids: Iterable[int]) -> Mapping[int, Standing | None]:
        read_before = len(self._standings)
        found = super().standings(ids)
        self.reads += len(self._standings) != read_before
        return found


def test_while_nothing_is_committed_no_job_is_read_and_nobody_is_woken(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.api.watcher.LOOK_SECONDS", 0.001)
    lookout = Counting(lambda: watched.world.store)
    watched.make = lambda: lookout
    job_id = watched.world.submit()
    mine = watched.waits(job_id)
    eventually(lambda: lookout.reads == 1)
    anybodys = watched.waits(ANY_JOB)
    seen = lookout.asked
    while lookout.asked < seen + 50:
        wake(watched.bells)
    assert lookout.reads == 1
    assert not mine.done()
    assert not anybodys.done()
    watched.world.submit()
    anybodys.result(20)
    assert not mine.done()
    watched.world.client.post(f"/jobs/{job_id}/cancel")
    mine.result(20)


def test_nobody_is_woken_by_what_is_no_news_to_him(watched: Watched) -> None:
    job_id = watched.world.submit()
    heard: list[Standing] = []

    def is_news(standing: Standing) -> bool:
        heard.append(standing)
        return standing.state in FINAL

    with watched.watcher.waiter(job_id, is_news) as waiter, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(waiter.wait, 60)
        watched.world.claim()
        wake(watched.bells)
        eventually(lambda: Standing(2, State.RUNNING) in heard)
        assert not waiting.done()
        watched.world.end(job_id, Ending.SUCCEEDED)
        wake(watched.bells)
        assert waiting.result(20)
        assert heard[-1] == (3, State.SUCCEEDED)


def test_who_looks_before_he_waits_misses_nothing(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrunner.api.watcher.LOOK_SECONDS", 3600.0)
    job_id = watched.world.submit()
    other = watched.waits(watched.world.submit())  # so the thread is there, and has looked
    eventually(watched.hung)
    with watched.watcher.waiter(job_id, lambda standing: standing.state in FINAL) as waiter:
        watched.world.client.post(f"/jobs/{job_id}/cancel")  # after his look, before he waits
        eventually(waiter._news.is_set)
        assert waiter.wait(1)
        assert not waiter.wait(0.01), "and it is news once"
    assert not other.done()


def test_whoever_waits_is_woken_when_his_job_is_gone(watched: Watched) -> None:
    job_id = watched.world.succeeded()
    with watched.watcher.waiter(job_id, lambda _: False) as waiter, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(waiter.wait, 60)
        assert watched.world.client.delete(f"/jobs/{job_id}").status_code == 204
        assert waiting.result(20)


def test_nobody_waits_who_comes_when_it_is_over(watched: Watched) -> None:
    job_id = watched.world.submit()
    watched.watcher.close()
    with watched.watcher.waiter(job_id, lambda _: False) as waiter, ThreadPoolExecutor(1) as threads:
        assert not threads.submit(waiter.wait, 60).result(20), "at once, and not for any news"


def test_who_rests_is_not_woken_by_news_but_by_the_end(watched: Watched) -> None:
    with ThreadPoolExecutor(1) as threads:
        resting = threads.submit(watched.watcher.rest, 60)
        watched.waits(ANY_JOB).result(20)
        assert not resting.done()
        watched.watcher.close()
        resting.result(20)


# -- what it survives -------------------------------------------------------------------------------


def test_where_no_thread_can_be_started_who_waits_gives_up_in_time_and_the_next_one_tries_again(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = watched.world.submit()
    with no_thread_starts():
        watched.wait(job_id, 0.01)
    assert "can't start new thread" in caplog.text
    assert (watched.watcher._waiters, watched.watcher._thread) == ({}, None)
    waiting = watched.waits(job_id)
    watched.world.client.post(f"/jobs/{job_id}/cancel")
    waiting.result(20)


def test_who_waits_on_is_woken_once_a_thread_can_be_started_again(watched: Watched) -> None:
    job_id = watched.world.submit()
    with watched.watcher.waiter(job_id) as waiter, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: None)  # its thread is there before none can be started
        waiting.result(20)
        with no_thread_starts():
            assert not waiter.wait(0.01)
        assert watched.watcher._thread is None
        woken = threads.submit(waiter.wait, 60)
        eventually(lambda: watched.watcher._thread is not None)
        watched.world.client.post(f"/jobs/{job_id}/cancel")
        assert woken.result(20)


def test_where_no_descriptor_is_left_it_hangs_its_bell_and_opens_the_store_later(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = watched.world.submit()
    with descriptors_left(0):
        watched.wait(job_id, 0.01)
    assert "news come late" in caplog.text
    with descriptors_left(1):  # which the thread needs to be told of those who wait
        mine = watched._threads.submit(watched.wait, job_id, 60)
        eventually(lambda: "no bell hangs" in caplog.text)
    assert not mine.done()
    eventually(watched.hung)
    watched.world.client.post(f"/jobs/{job_id}/cancel")
    mine.result(20)
    assert caplog.text.count("no bell hangs") == 1


def test_what_goes_wrong_in_one_look_is_logged_and_the_next_look_is_made(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = [MemoryError("once"), RuntimeError("twice")]

    class Troubled(Lookout):
        def standings(self, ids: Iterable[int]) -> Mapping[int, Standing | None]:
            if troubles:
                raise troubles.pop()
            return super().standings(ids)

    watched.make = lambda: Troubled(lambda: watched.world.store)
    job_id = watched.world.submit()
    waiting = watched.waits(job_id)
    watched.world.client.post(f"/jobs/{job_id}/cancel")
    waiting.result(20)
    assert "once" in caplog.text
    assert "twice" in caplog.text


def test_a_thread_that_dies_is_followed_by_another(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    died = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: died.set())

    def cannot() -> Lookout:
        raise MemoryError

    able, watched.make = watched.make, cannot
    job_id = watched.world.submit()
    watched.wait(job_id, 0.01)
    assert died.wait(20)
    eventually(lambda: watched.watcher._thread is None)
    watched.make = able
    waiting = watched.waits(job_id)
    watched.world.client.post(f"/jobs/{job_id}/cancel")
    waiting.result(20)


def test_a_thread_that_ends_leaves_the_bell_of_the_next_one(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end = threading.Event()

    class Reluctant(Lookout):
        def close(self) -> None:
            may_end.wait(20)
            super().close()

    able, watched.make = watched.make, lambda: Reluctant(lambda: watched.world.store)
    monkeypatch.setattr("jobrunner.api.watcher.IDLE_SECONDS", 0.01)
    watched.wait(ANY_JOB, 0.01)
    eventually(lambda: watched.watcher._thread is None)
    (old,) = watched.hung()
    watched.make = able
    monkeypatch.setattr("jobrunner.api.watcher.LOOK_SECONDS", 3600.0)
    job_id = watched.world.submit()
    waiting = watched.waits(job_id)
    (new,) = eventually(lambda: set(watched.hung()) - {old})
    may_end.set()
    eventually(lambda: watched.hung() == [new])
    watched.world.client.post(f"/jobs/{job_id}/cancel")  # which rings
    waiting.result(20)
