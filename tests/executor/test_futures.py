"""Futures as the standard library has them, and cancelling what runs."""

import asyncio
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    as_completed,
    wait,
)
from typing import Any

import pytest

from jobrunner import Executor
from jobrunner.client import Client
from tests.cli.running import Served
from tests.executor.conftest import Holds
from tests.executor.tasks import fails, held, power
from tests.waiting import eventually


def test_the_standard_librarys_waits_take_these_futures(executor: Executor, holds: Holds) -> None:
    slow: Future[Any] = executor.submit(held, *holds.args("slow"))
    quick: Future[Any] = executor.submit(power, 2)
    done, pending = wait([slow, quick], timeout=30, return_when=FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {slow})
    bad: Future[Any] = executor.submit(fails, "ValueError")
    done, pending = wait([slow, bad], timeout=30, return_when=FIRST_EXCEPTION)
    assert (done, pending) == ({bad}, {slow})
    assert wait([slow], timeout=0.01) == (set(), {slow})
    holds.let_go()
    assert wait([slow, quick, bad], timeout=30, return_when=ALL_COMPLETED).done == {slow, quick, bad}


def test_as_completed_gives_each_when_it_is_done(executor: Executor, holds: Holds) -> None:
    slow: Future[Any] = executor.submit(held, *holds.args("slow"))
    quick: Future[Any] = executor.submit(power, 2)
    completed = as_completed([slow, quick], timeout=30)
    assert next(completed) is quick
    holds.let_go()
    assert next(completed) is slow
    with pytest.raises(TimeoutError):
        next(as_completed([executor.submit(held, *holds.args("again"))], timeout=0.01))


def test_a_result_that_is_not_there_in_time_is_a_timeout_and_comes_later(
    executor: Executor, holds: Holds
) -> None:
    future = executor.submit(held, *holds.args("a"))
    with pytest.raises(TimeoutError):
        future.result(0.01)
    with pytest.raises(TimeoutError):
        future.exception(0.01)
    holds.wait_until_running("a")
    assert future.running()
    holds.let_go()
    assert (future.result(30), future.exception(30), future.running()) == ("a", None, False)


def test_callbacks_are_called_with_the_future(executor: Executor) -> None:
    called: list[object] = []
    future = executor.submit(power, 2)
    future.add_done_callback(called.append)
    future.result(30)
    eventually(lambda: called == [future])
    future.add_done_callback(called.append)
    assert called == [future, future]


def test_an_event_loop_takes_it_as_any_executor(executor: Executor) -> None:
    async def run() -> list[int]:
        loop = asyncio.get_running_loop()
        return list(await asyncio.gather(*(loop.run_in_executor(executor, power, n) for n in range(5))))

    assert asyncio.run(run()) == [0, 1, 4, 9, 16]


# -- cancelling ----------------------------------------------------------------------------------


def test_a_running_call_can_be_cancelled(executor: Executor, holds: Holds) -> None:
    future = executor.submit(held, *holds.args("a"))
    holds.wait_until_running("a")
    assert future.cancel()
    assert (future.cancelled(), future.done(), future.running()) == (True, True, False)
    with pytest.raises(CancelledError):
        future.result(0)
    assert future.cancel()
    assert wait([future], timeout=5).done == {future}
    assert future.job.wait(30).state == "cancelled"


def test_a_call_that_waits_for_a_worker_can_be_cancelled(executor: Executor, holds: Holds) -> None:
    running = [executor.submit(held, *holds.args(name)) for name in ("a", "b")]
    holds.wait_until_running("a", "b")
    waiting = executor.submit(held, *holds.args("c"))
    assert waiting.cancel()
    assert waiting.job.wait(30).state == "cancelled"
    holds.let_go()
    assert [future.result(30) for future in running] == ["a", "b"]
    assert not holds.runs("c")


def test_a_call_that_is_done_cannot_be_cancelled(executor: Executor) -> None:
    future = executor.submit(power, 2)
    assert future.result(30) == 4
    assert not future.cancel()
    assert future.result() == 4


def test_a_job_that_somebody_else_cancels_is_a_cancelled_future(
    executor: Executor, served: Served, holds: Holds
) -> None:
    future = executor.submit(held, *holds.args("a"))
    with Client(served.url) as client:
        client.job(future.job.id).cancel()
    with pytest.raises(CancelledError):
        future.result(30)
    assert future.cancelled()
