"""`map` against a real server: one map job, results in order, lazily, with as many items ahead as was asked for."""

import contextlib
import functools
import itertools
import os
import select
import signal
import warnings
from concurrent.futures import CancelledError
from typing import Any

import pytest

from jobrunner import Executor
from jobrunner.client import Client, JobFailedError, ProblemError, RemoteTraceback
from jobrunner.executor.calls import Callables
from jobrunner.executor.windows import BATCH_BYTES, Windows
from tests.cli.running import Served
from tests.executor.conftest import Holds, states
from tests.executor.tasks import Place, dies_at, fails_at, held, length, moved, power
from tests.waiting import eventually


def counts(executor: Executor) -> list[int]:
    """Return how many items each of the executor's map jobs has, oldest first."""
    found = executor._client.jobs(labels={"executor": executor.run})
    return [job.map["items"] for job in found if job.map is not None][::-1]


# -- calls become items --------------------------------------------------------------------------


def test_map_gives_results_in_order(executor: Executor) -> None:
    assert list(executor.map(power, range(30))) == [number**2 for number in range(30)]
    assert list(executor.map(power, range(5), itertools.count(1))) == [0, 1, 8, 81, 1024]
    assert list(executor.map("named", [1, 2], [3, 4])) == [[1, 3, 0], [2, 4, 0]]
    assert list(executor.map("tests.executor.tasks.up_to", (n for n in (1, 2, 3)))) == [0, 1, 3]
    assert list(executor.map(moved, [Place(1, 2)], [0.5])) == [{"x": 1.5, "y": 2.5}]  # type: ignore[comparison-overlap]
    assert list(executor.map(power, [])) == []
    assert list(executor.map(power, range(0))) == []
    assert list(executor.map(power)) == []
    assert counts(executor) == [30, 5, 2, 3, 1]


def test_a_long_range_is_a_job_of_a_few_bytes_and_its_results_are_never_all_in_memory(
    executor: Executor,
) -> None:
    results = executor.map(power, range(0, 100_000, 2), itertools.repeat(1))
    (job,) = executor._client.jobs(labels={"executor": executor.run})
    assert job.params == {"exponent": 1}
    assert next(results) == 0
    assert all(one == 2 * place for place, one in enumerate(results, start=1))
    assert counts(executor) == [50_000]


def test_many_values_of_a_list_are_one_job(executor: Executor) -> None:
    assert sum(executor.map(power, list(range(5000)))) == sum(number**2 for number in range(5000))
    assert counts(executor) == [5000]


@pytest.mark.parametrize(
    ("fn", "iterables", "params", "items"),
    [
        (power, (range(2, 6, 2),), {}, {"base": range(2, 6, 2)}),
        (power, ([1, 2],), {}, {"base": [1, 2]}),
        (power, (range(2), range(2)), {}, [{"base": 0, "exponent": 0}, {"base": 1, "exponent": 1}]),
        (power, (itertools.repeat(3), range(2)), {"base": 3}, {"exponent": range(2)}),
        (power, ([1, 2], itertools.repeat(3, 1)), {}, [{"base": 1, "exponent": 3}]),
        (functools.partial(power, exponent=4), ("ab",), {"exponent": 4}, {"base": ["a", "b"]}),
        (functools.partial(power, 7), ([4],), {"base": 7}, {"exponent": [4]}),
    ],
)
def test_what_does_not_vary_is_told_once(
    executor: Executor, fn: Any, iterables: Any, params: Any, items: Any
) -> None:
    windows = Windows(Callables(executor._asking).task(fn), iterables)
    assert (windows.params, windows.asked(windows.take(10))) == (params, items)
    assert not windows.take(10)


def test_of_what_repeats_for_ever_alone_there_is_no_end(executor: Executor) -> None:
    windows = Windows(Callables(executor._asking).task(power), [itertools.repeat(1), itertools.repeat(2)])
    assert len(windows.take(3)) == len(windows.take(3)) == 3


def test_a_request_has_enough_after_so_many_items_or_bytes(executor: Executor) -> None:
    half, few = "x" * (BATCH_BYTES // 2), "x"
    windows = Windows(
        Callables(executor._asking).task(length), [[half, half, few, half, half, few, few, few, few]]
    )
    taken = iter(lambda: windows.take(3), [])
    assert [[len(one) for one in items] for items in taken] == [
        [len(half), len(half)],
        [1, len(half), len(half)],
        [1, 1, 1],
        [1],
    ]


def test_a_request_that_is_too_large_all_the_same_is_halved(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.executor.windows.BATCH_BYTES", 1 << 30)
    assert list(executor.map(length, ["x" * 800_000] * 25)) == [800_000] * 25
    assert sum(counts(executor)) == 25
    with pytest.raises(ProblemError, match="max_params_bytes"):
        executor.map(length, ["x" * 2_000_000])


@pytest.mark.parametrize(
    ("iterables", "said"),
    [
        (([1], [2], [3]), "too many positional arguments"),
        (([object()],), "an object, which has no form in JSON"),
        (([1], itertools.repeat(object())), "an object, which has no form in JSON"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(executor: Executor, iterables: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        executor.map(power, *iterables)
    assert states(executor) == []


def test_if_a_later_request_cannot_be_made_nothing_is_done_for_the_earlier_ones(
    executor: Executor, monkeypatch: pytest.MonkeyPatch, holds: Holds
) -> None:
    monkeypatch.setattr("jobrunner.executor.windows.BATCH_BYTES", 1)
    with pytest.raises(TypeError, match="no form in JSON"):
        executor.map(held, itertools.repeat(holds.folder), [*holds.args("a")[1:], object()])
    eventually(lambda: states(executor) == ["cancelled"], 30)


@pytest.mark.parametrize("sizes", [{"chunksize": 0}, {"chunksize": -1}, {"buffersize": 0}])
def test_sizes_below_one_are_refused(executor: Executor, sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=">= 1"):
        executor.map(power, [1], **sizes)


@pytest.mark.parametrize("chunksize", [1, 3, 1000])
def test_a_chunk_is_what_a_worker_is_handed_and_changes_no_result(executor: Executor, chunksize: int) -> None:
    assert list(executor.map(power, range(7), chunksize=chunksize)) == [0, 1, 4, 9, 16, 25, 36]
    (job,) = executor._client.jobs(labels={"executor": executor.run})
    assert job.map is not None
    assert job.map["chunk_size"] == chunksize


# -- results -------------------------------------------------------------------------------------


def test_results_come_as_soon_as_all_before_them_are_there(executor: Executor, holds: Holds) -> None:
    names = [holds.args(name)[1] for name in "abc"]
    results = executor.map(held, itertools.repeat(holds.folder), names, chunksize=1)
    holds.let_go("b")
    holds.wait_until_running("a", "c")  # b is done
    holds.let_go("a")
    assert [next(results), next(results)] == ["a", "b"]
    assert not holds.runs("d")
    holds.let_go("c")
    assert list(results) == ["c"]


def test_map_raises_what_an_item_raises_when_its_turn_comes(executor: Executor) -> None:
    results = executor.map(fails_at, range(5), itertools.repeat(2))
    assert (next(results), next(results)) == (0, 1)
    with pytest.raises(ValueError, match="2 is bad") as caught:
        next(results)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert caught.value.__notes__ == [f"(item 2 of job {_only_job(executor)})"]
    with pytest.raises(StopIteration):
        next(results)


def _only_job(executor: Executor) -> int:
    (job,) = executor._client.jobs(labels={"executor": executor.run})
    return job.id


def test_an_item_that_kills_its_process_is_the_only_one_that_fails(served: Served) -> None:
    with Executor(served.url, crash_retries=0) as executor:
        results = executor.map(dies_at, range(4), itertools.repeat(2), chunksize=1)
        assert (next(results), next(results)) == (0, 1)
        with pytest.raises(JobFailedError) as caught:
            next(results)
    assert caught.value.kind == "crashed"


def test_map_raises_timeout_error_when_time_is_up(executor: Executor, holds: Holds) -> None:
    results = executor.map(held, itertools.repeat(holds.folder), ["", holds.args("a")[1]], timeout=2)
    assert next(results) == ""
    with pytest.raises(TimeoutError):
        next(results)
    eventually(lambda: states(executor) == ["cancelled"], 30)


def test_what_is_there_is_given_also_when_time_is_up(executor: Executor) -> None:
    results = executor.map(power, range(3), timeout=0)
    eventually(lambda: states(executor) == ["succeeded"], 30)
    assert list(results) == [0, 1, 4]


def test_a_map_job_that_somebody_cancels_is_a_cancelled_map(
    executor: Executor, served: Served, holds: Holds
) -> None:
    results = executor.map(held, itertools.repeat(holds.folder), ["", holds.args("a")[1]])
    assert next(results) == ""
    with Client(served.url) as client:
        client.job(_only_job(executor)).cancel()
    with pytest.raises(CancelledError):
        next(results)


def test_a_map_job_that_was_deleted_meanwhile_is_told_as_gone(executor: Executor, served: Served) -> None:
    results = executor.map(power, range(2))
    eventually(lambda: states(executor) == ["succeeded"], 30)
    with Client(served.url) as client:
        client.job(_only_job(executor)).delete()
    with pytest.raises(ProblemError, match="there is no job"):
        next(results)


# -- ahead ---------------------------------------------------------------------------------------


def test_map_submits_all_before_it_returns(executor: Executor) -> None:
    executor.map(power, iter(range(5)))
    assert counts(executor) == [5]


def test_with_a_buffer_map_takes_an_endless_iterable_a_little_at_a_time(executor: Executor) -> None:
    taken = itertools.count()
    results = executor.map(power, taken, buffersize=4)
    assert list(itertools.islice(results, 10)) == [number**2 for number in range(10)]
    assert next(taken) <= 16
    results.close()  # type: ignore[attr-defined]


def test_with_a_buffer_a_range_is_submitted_piece_by_piece(executor: Executor) -> None:
    assert list(executor.map(power, range(5), buffersize=4)) == [0, 1, 4, 9, 16]
    assert counts(executor) == [2, 2, 1]


def test_with_a_buffer_more_is_submitted_before_all_that_was_is_taken(
    executor: Executor, holds: Holds
) -> None:
    names = ["", "", *(holds.args(str(number))[1] for number in range(20))]
    results = executor.map(held, itertools.repeat(holds.folder), names, buffersize=4)
    assert [next(results), next(results)] == ["", ""]
    assert counts(executor) == [2, 2, 2]
    results.close()  # type: ignore[attr-defined]


def test_a_map_that_is_left_early_is_cancelled(executor: Executor, holds: Holds) -> None:
    names = ["", *(holds.args(f"{number}")[1] for number in range(6))]
    results = executor.map(held, itertools.repeat(holds.folder), names)
    assert next(results) == ""
    results.close()  # type: ignore[attr-defined]
    eventually(lambda: states(executor) == ["cancelled"], 30)


def test_a_forked_process_that_leaves_a_map_leaves_its_parents_job_alone(
    executor: Executor, holds: Holds
) -> None:
    names = ["", holds.args("a")[1]]
    results = executor.map(held, itertools.repeat(holds.folder), names)
    assert next(results) == ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a process with threads forks: the case at hand
        child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            results.close()  # type: ignore[attr-defined]
        os._exit(0)
    with os.fdopen(os.pidfd_open(child)) as its_end:
        has_ended = bool(select.select([its_end], [], [], 60)[0])
    os.kill(child, signal.SIGKILL)
    assert (has_ended, os.waitpid(child, 0)[1]) == (True, 0)
    job = executor._client.job(_only_job(executor))
    assert (job.state, job.reason) == ("running", None)  # else it would be "stopping", or have stopped
    holds.let_go()
    assert list(results) == ["a"]


# -- shutting down -------------------------------------------------------------------------------


def test_the_end_of_a_with_block_waits_for_maps_and_their_results_can_be_taken_later(served: Served) -> None:
    with Executor(served.url) as executor:
        results = executor.map(power, range(5))
    assert states(executor) == ["succeeded"]
    assert list(results) == [0, 1, 4, 9, 16]


def test_a_shutdown_that_cancels_ends_maps_too(executor: Executor, holds: Holds) -> None:
    results = executor.map(held, itertools.repeat(holds.folder), [holds.args("a")[1]])
    done = executor.map(power, range(2))
    eventually(lambda: "succeeded" in states(executor), 30)
    executor.shutdown(cancel_futures=True)
    assert states(executor) == ["cancelled", "succeeded"]
    with pytest.raises(CancelledError):
        next(results)
    assert list(done) == [0, 1]
