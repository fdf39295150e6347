"""The executor against a real server: what the standard library's executors promise, and what this one adds."""

import asyncio
import functools
import http.client
import itertools
import operator
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    as_completed,
    wait,
)
from pathlib import Path
from typing import Any

import pytest

from jobrunner import Executor
from jobrunner.client import Client, JobFailedError, ProblemError
from tests.cli.running import Served, environ
from tests.executor.conftest import ROOT, Holds
from tests.executor.tasks import (
    Place,
    dies,
    fails,
    fails_at,
    held,
    long_text,
    moved,
    power,
    under_another_name,
    up_to,
)
from tests.waiting import eventually

# -- submit --------------------------------------------------------------------------------------


def test_a_call_is_a_job_and_its_result_comes_back(executor: Executor) -> None:
    future = executor.submit(power, 3)
    assert isinstance(future, Future)
    assert future.result(30) == 9
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert future.job.refresh().state == "succeeded"
    assert future.job.params == {"base": 3}
    assert future.job.labels == {"executor": executor.run}


def test_arguments_go_by_position_and_by_name(executor: Executor) -> None:
    assert executor.submit(power, 2, exponent=10).result(30) == 1024
    assert executor.submit(power, exponent=3, base=2).result(30) == 8
    assert executor.submit(under_another_name, self_=1, fn=2, task=3).result(30) == [1, 2, 3]


def test_a_task_may_be_given_by_its_name(executor: Executor) -> None:
    assert executor.submit("named", 1, 2).result(30) == [1, 2, 0]
    assert executor.submit("named", 1, task=3, fn=2).result(30) == [1, 2, 3]
    assert executor.submit("named", fn=2, self_=1).result(30) == [1, 2, 0]


def test_a_partial_of_a_task_is_one(executor: Executor) -> None:
    cube = functools.partial(power, exponent=3)
    assert executor.submit(cube, 2).result(30) == 8
    assert executor.submit(functools.partial(functools.partial(power, 2), 4)).result(30) == 16


def test_arguments_become_json_and_what_the_task_takes_on_the_other_side(executor: Executor) -> None:
    future: Future[Any] = executor.submit(moved, Place(1, 2), 0.5)
    assert future.result(30) == {"x": 1.5, "y": 2.5}


def test_a_generators_result_is_what_it_returns_and_its_partial_results_are_the_jobs(
    executor: Executor,
) -> None:
    future = executor.submit(up_to, 4)
    assert [one.value for one in future.job.partials()] == [0, 1, 2, 3]
    assert future.result(30) == 6


def test_a_long_result_comes_back_whole(executor: Executor) -> None:
    assert executor.submit(long_text, 200_000).result(30) == "x" * 200_000


@pytest.mark.parametrize("fn", [len, operator.add, lambda: 1, functools.partial(print), Place, 5, None])
def test_what_is_no_task_is_refused_with_the_remedy(executor: Executor, fn: Any) -> None:
    with pytest.raises(
        TypeError, match="is no task: decorate it with @task in a module that the dispatcher serves"
    ):
        executor.submit(fn)
    with pytest.raises(TypeError, match="is no task"):
        executor.map(fn, [1])


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing a required argument: 'base'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"base": 2}, "multiple values for argument 'base'"),
        ((1,), {"n": 2}, "unexpected keyword argument 'n'"),
        ((object(),), {}, "an object, which has no form in JSON"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(
    executor: Executor, args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        executor.submit(power, *args, **kwargs)


def test_arguments_of_a_name_are_bound_by_the_published_schema(executor: Executor) -> None:
    with pytest.raises(TypeError, match="named takes 3 positional arguments but 4 were given"):
        executor.submit("named", 1, 2, 3, 4)
    with pytest.raises(TypeError, match="named got multiple values for argument 'self_'"):
        executor.submit("named", 1, 2, self_=3)


def test_what_the_server_refuses_is_its_problem(executor: Executor) -> None:
    with pytest.raises(ProblemError, match="must be of type integer"):
        executor.submit("tests.executor.tasks.power", "two")
    with pytest.raises(ProblemError, match="no task is named 'nowhere'"):
        executor.submit("nowhere")


def test_options_hold_for_every_job(served: Served) -> None:
    with Executor(served.url, priority=3, labels={"who": "me"}) as executor:
        job = executor.submit(power, 2).job
        list(executor.map(power, [1]))
    assert (job.data["priority"], job.labels) == (3, {"who": "me", "executor": executor.run})
    with Client(served.url) as client:
        assert [one.data["priority"] for one in client.jobs(labels={"executor": executor.run})] == [3, 3]


def test_many_threads_may_submit_at_once(executor: Executor) -> None:
    results: list[int] = []

    def submit(start: int) -> None:
        results.extend(executor.submit(power, start + i).result(60) for i in range(10))

    threads = [threading.Thread(target=submit, args=(start,)) for start in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [number**2 for number in range(40)]


def test_the_functions_of_a_program_are_those_of_the_module_that_it_is(
    served: Served, tmp_path: Path
) -> None:
    """`python tasks.py` calls its own functions `__main__.power`; the dispatcher knows another name."""
    program = (
        "import runpy, sys\n"
        "from jobrunner import Executor, task\n"
        "@task\n"
        "def power(base: int, exponent: int = 2) -> int: ...\n"
        "if __name__ == '__main__':\n"
        "    with Executor() as executor:\n"
        "        print(executor.submit(power, 7).result(60))\n"
    )
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, str(path)],
        env=environ(JOBRUNNER_URL=served.url, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "no task is named 'program.power'" in done.stderr


# -- map -----------------------------------------------------------------------------------------


def test_map_gives_results_in_order(executor: Executor) -> None:
    assert list(executor.map(power, range(30))) == [number**2 for number in range(30)]
    assert list(executor.map(power, range(5), itertools.count(1))) == [0, 1, 8, 81, 1024]
    assert list(executor.map("named", [1, 2], [3, 4])) == [[1, 3, 0], [2, 4, 0]]
    assert list(executor.map(power, [])) == []


@pytest.mark.parametrize("chunksize", [1, 3, 7, 1000])
def test_a_chunk_is_what_one_request_submits_and_changes_nothing_else(
    executor: Executor, chunksize: int
) -> None:
    assert list(executor.map(power, range(7), chunksize=chunksize)) == [0, 1, 4, 9, 16, 25, 36]


@pytest.mark.parametrize("sizes", [{"chunksize": 0}, {"chunksize": -1}, {"buffersize": 0}])
def test_sizes_below_one_are_refused(executor: Executor, sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=">= 1"):
        executor.map(power, [1], **sizes)


def test_map_raises_what_an_item_raises_when_its_turn_comes(executor: Executor) -> None:
    results = executor.map(fails_at, range(5), itertools.repeat(2))
    assert (next(results), next(results)) == (0, 1)
    with pytest.raises(ValueError, match="2 is bad"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_raises_timeout_error_when_time_is_up(executor: Executor, holds: Holds) -> None:
    results = executor.map(held, [holds.folder] * 2, ["", holds.args("a")[1]], timeout=2)
    assert next(results) == ""
    with pytest.raises(TimeoutError):
        next(results)


def test_map_submits_all_before_it_returns(executor: Executor, served: Served) -> None:
    executor.map(power, range(5), chunksize=2)
    with Client(served.url) as client:
        assert len(list(client.jobs(labels={"executor": executor.run}))) == 5


def test_with_a_buffer_map_takes_an_endless_iterable_a_little_at_a_time(executor: Executor) -> None:
    taken = itertools.count()
    results = executor.map(power, taken, buffersize=4, chunksize=2)
    assert list(itertools.islice(results, 10)) == [number**2 for number in range(10)]
    assert next(taken) <= 16
    results.close()  # type: ignore[attr-defined]


def test_a_map_that_is_left_early_cancels_what_has_not_begun(
    executor: Executor, served: Served, holds: Holds
) -> None:
    names = ["", *(holds.args(f"{number}")[1] for number in range(6))]
    results = executor.map(held, itertools.repeat(holds.folder), names)
    assert next(results) == ""
    holds.wait_until_running("0", "1")
    results.close()  # type: ignore[attr-defined]
    with Client(served.url) as client:
        states = [job.state for job in client.jobs(labels={"executor": executor.run})]
    assert sorted(states) == ["cancelled"] * 4 + ["running"] * 2 + ["succeeded"]


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        ("ValueError", ValueError, "no such value"),
        ("empty", AssertionError, ""),
        ("KeyError", KeyError, "'a key'"),
        ("KeyError of an object", KeyError, "<class 'tests.executor.tasks.Place'>"),
        ("FileNotFoundError", FileNotFoundError, "[Errno 2] No such file or directory: '/no/such/file'"),
        ("rename", FileNotFoundError, "[Errno 2] No such file or directory: '/no/such/file' -> '/no/other'"),
        ("OSError", OSError, "only a text"),
        ("TimeoutError", TimeoutError, "took too long"),
    ],
)
def test_a_builtin_exception_comes_back_as_itself(
    executor: Executor, how: str, kind: type[Exception], said: str
) -> None:
    error = executor.submit(fails, how).exception(30)
    assert (type(error), str(error)) == (kind, said)
    assert error is not None
    assert 'File "' in str(error.__cause__)
    assert "in fails" in str(error.__cause__)


def test_a_missing_file_can_still_be_told_by_its_number(executor: Executor) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        executor.submit(fails, "FileNotFoundError").result(30)
    assert (caught.value.errno, caught.value.filename) == (2, "/no/such/file")


@pytest.mark.parametrize(
    ("how", "type_"),
    [
        ("UnicodeDecodeError", "UnicodeDecodeError"),
        ("ExceptionGroup", "ExceptionGroup"),
        ("OwnError", "tests.executor.tasks.OwnError"),
        ("SystemExit", "SystemExit"),
    ],
)
def test_an_exception_that_cannot_be_made_here_is_named(executor: Executor, how: str, type_: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        executor.submit(fails, how).result(30)
    assert (caught.value.kind, caught.value.type) == ("exception", type_)
    assert type_ in str(caught.value)
    assert "in fails" in str(caught.value.__cause__)


def test_a_crash_fails_its_own_job_and_the_executor_goes_on(served: Served) -> None:
    with Executor(served.url, crash_retries=0) as executor:
        crashed, fine = executor.submit(dies), executor.submit(power, 2)
        with pytest.raises(JobFailedError, match="crashed") as caught:
            crashed.result(30)
        assert caught.value.error["exit_code"] == 3
        assert fine.result(30) == 4
        assert executor.submit(power, 3).result(30) == 9


# -- waiting -------------------------------------------------------------------------------------


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
    assert waiting.job.state == "cancelled"
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


# -- shutting down -------------------------------------------------------------------------------


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


def test_a_shutdown_that_does_not_wait_leaves_the_futures_to_be_done(served: Served, tmp_path: Path) -> None:
    executor = Executor(served.url)
    holds = Holds(tmp_path)
    future = executor.submit(held, *holds.args("a"))
    executor.shutdown(wait=False)
    assert not future.done()
    holds.let_go()
    assert future.result(30) == "a"


def test_a_shutdown_that_cancels_leaves_alone_what_runs(served: Served, tmp_path: Path) -> None:
    executor = Executor(served.url)
    holds = Holds(tmp_path)
    futures = [executor.submit(held, *holds.args(name)) for name in "abcde"]
    holds.wait_until_running("a", "b")
    executor.shutdown(wait=False, cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False, False, True, True, True]
    holds.let_go()
    executor.shutdown()
    assert [future.result(0) for future in futures[:2]] == ["a", "b"]


def test_an_executor_with_nothing_to_watch_has_no_thread(served: Served) -> None:
    executor = Executor(served.url)
    assert executor.submit(power, 2).result(30) == 4
    watching = "jobrunner-executor"
    eventually(lambda: watching not in {thread.name for thread in threading.enumerate()})


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


# -- when parts of the server go away ------------------------------------------------------------


def test_an_api_that_is_killed_costs_no_result(executor: Executor, served: Served, holds: Holds) -> None:
    first = executor.submit(held, *holds.args("a"))
    holds.wait_until_running("a")
    os.kill(served.parts()["api"], signal.SIGKILL)
    second = executor.submit(power, 3)  # sent until there is an API again
    holds.let_go()
    assert (first.result(60), second.result(60)) == ("a", 9)


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
