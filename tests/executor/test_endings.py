"""Shutting down, and what goes on when a part of the server, or the program itself, goes away."""

import contextlib
import http.client
import os
import select
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from jobrunner import Executor, kernel
from jobrunner.client import Client, ProblemError, UnreachableError
from tests.cli.running import Served, environ
from tests.executor.conftest import ROOT, Holds, states
from tests.executor.tasks import held, power
from tests.waiting import eventually


def test_after_a_shutdown_nothing_can_be_submitted(served: Served) -> None:
    executor = Executor(served.url)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(power, 2)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(power, [2])
    executor.shutdown()


def test_the_end_of_a_with_block_waits_for_all(served: Served) -> None:
    with Executor(served.url) as executor:
        futures = [executor.submit(power, number) for number in range(5)]
    assert all(future.done() for future in futures)


def test_a_shutdown_that_does_not_wait_leaves_the_futures_to_be_done(
    executor: Executor, holds: Holds
) -> None:
    future = executor.submit(held, *holds.args("a"))
    executor.shutdown(wait=False)
    assert not future.done()
    holds.let_go()
    assert future.result(30) == "a"


def test_a_shutdown_that_cancels_leaves_alone_what_runs(executor: Executor, holds: Holds) -> None:
    futures = [executor.submit(held, *holds.args(name)) for name in "abcde"]
    # For a moment a worker may have been given more than it runs.
    eventually(lambda: states(executor) == ["queued"] * 3 + ["running"] * 2, 30)
    executor.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False, False, True, True, True]
    holds.let_go()
    executor.shutdown()
    assert [future.result(0) for future in futures[:2]] == ["a", "b"]


def test_a_callback_cannot_wait_for_the_end_of_what_calls_it(executor: Executor, holds: Holds) -> None:
    said: list[str] = []

    def shut_down(_: object) -> None:
        with pytest.raises(RuntimeError) as caught:
            executor.shutdown()
        said.append(str(caught.value))

    future = executor.submit(held, *holds.args("a"))
    future.add_done_callback(shut_down)
    holds.let_go()
    eventually(lambda: said, 30)
    assert said == ["cannot join current thread"]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(power, 2)


def test_an_executor_with_nothing_to_watch_has_no_thread(served: Served) -> None:
    executor = Executor(served.url)
    assert executor.submit(power, 2).result(30) == 4
    watching = "jobrunner-executor"
    eventually(lambda: watching not in {thread.name for thread in threading.enumerate()})


def test_a_forked_process_begins_anew_and_leaves_alone_what_is_its_parents(
    executor: Executor, holds: Holds
) -> None:
    mine = executor.submit(held, *holds.args("a"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a process with threads forks: the case at hand
        child = os.fork()
    if child == 0:
        try:
            assert executor.submit(power, 3).result(30) == 9
            executor.shutdown(cancel_futures=True)
            os._exit(0)
        finally:
            os._exit(1)
    with os.fdopen(os.pidfd_open(child)) as its_end:
        has_ended = bool(select.select([its_end], [], [], 60)[0])
    os.kill(child, signal.SIGKILL)
    assert (has_ended, os.waitpid(child, 0)[1]) == (True, 0)
    assert not mine.done()
    holds.let_go()
    assert mine.result(30) == "a"


def test_jobs_go_on_when_the_program_ends(served: Served, tmp_path: Path) -> None:
    program = (
        "from jobrunner import Executor\n"
        f"print(Executor().submit('tests.executor.tasks.held', {str(tmp_path)!r}, 'a').job.id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environ(JOBRUNNER_URL=served.url, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    (tmp_path / "a").touch()
    with Client(served.url) as client:
        assert client.job(int(done.stdout)).result(30) == "a"


# -- when something goes away --------------------------------------------------------------------


def test_an_api_that_is_killed_costs_no_result(executor: Executor, served: Served, holds: Holds) -> None:
    first = executor.submit(held, *holds.args("a"))
    holds.wait_until_running("a")
    killed = served.parts()["api"]
    workers = kernel.children(killed)
    os.kill(killed, signal.SIGKILL)
    second = executor.submit(power, 3)  # sent until there is an API again
    holds.let_go()
    assert (first.result(60), second.result(60)) == ("a", 9)
    # Its workers may have answered for a moment yet; the next test needs one that stays.
    eventually(lambda: not [pid for pid in workers if kernel.started_ticks(pid) is not None], 30)
    eventually(lambda: _answers(served), 30)


def _answers(served: Served) -> bool:
    with contextlib.suppress(UnreachableError), Client(served.url) as client:
        return bool(client.tasks())
    return False


def test_a_job_that_was_deleted_meanwhile_is_told_as_gone(
    executor: Executor, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.executor.watch.WAIT_SECONDS", 1)
    future = executor.submit(power, 2)
    future.result(30)
    gone = type(future)(future.job, executor._watch.forget)
    connection = http.client.HTTPConnection(served.url.removeprefix("http://"))
    connection.request("DELETE", f"/jobs/{future.job.id}")
    assert connection.getresponse().status == 204
    connection.close()
    executor._watch.add([gone])
    with pytest.raises(ProblemError, match="there is no job"):
        gone.result(30)
