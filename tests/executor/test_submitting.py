"""Calls become jobs: which functions, and which arguments."""

import functools
import operator
import subprocess
import sys
import threading
from concurrent.futures import (
    Future,
)
from pathlib import Path
from typing import Any

import pytest

from jobrunner import Executor
from jobrunner.client import Client, ProblemError
from tests.cli.running import Served, environ
from tests.executor.conftest import ROOT
from tests.executor.tasks import Place, long_text, moved, power, under_another_name, up_to


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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_workers": 4}, "leave out max_workers: the server has a pool of its own"),
        ({"initializer": print, "initargs": ()}, "leave out initargs, initializer"),
        ({"url": 4}, "url must be a text, not 4: the server has a pool of its own"),
        ({"prioritty": 4}, "prioritty: no such option of a job; there is priority"),
    ],
)
def test_what_is_said_to_a_pool_of_processes_is_refused_with_an_explanation(given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Executor(**given)
