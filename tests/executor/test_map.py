"""`map` against a real server: in order, lazily, with as many jobs ahead as was asked for."""

import itertools
from collections.abc import Sequence

import pytest

from jobrunner import Executor
from jobrunner.executor import JobFuture
from jobrunner.executor.ahead import BATCH_BYTES, Ahead
from jobrunner.executor.calls import Params
from tests.executor.conftest import Holds, states
from tests.executor.tasks import fails_at, held, length, power
from tests.waiting import eventually


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


def test_map_submits_all_before_it_returns(executor: Executor) -> None:
    executor.map(power, range(5), chunksize=2)
    assert len(states(executor)) == 5


def test_with_a_buffer_map_takes_an_endless_iterable_a_little_at_a_time(executor: Executor) -> None:
    taken = itertools.count()
    results = executor.map(power, taken, buffersize=4, chunksize=2)
    assert list(itertools.islice(results, 10)) == [number**2 for number in range(10)]
    assert next(taken) <= 16
    results.close()  # type: ignore[attr-defined]


def test_with_a_buffer_more_is_submitted_before_all_that_was_is_taken(
    executor: Executor, holds: Holds
) -> None:
    names = ["", "", *(holds.args(str(number))[1] for number in range(20))]
    results = executor.map(held, itertools.repeat(holds.folder), names, buffersize=4)
    assert [next(results), next(results)] == ["", ""]
    assert len(states(executor)) == 6
    results.close()  # type: ignore[attr-defined]


def test_a_request_has_enough_after_so_many_jobs_or_bytes() -> None:
    sizes: list[list[int]] = []

    def submit(many: Sequence[dict[str, int]]) -> list[JobFuture[int]]:
        sizes.append([params["size"] for params in many])
        return []

    half = BATCH_BYTES // 2
    calls = (Params({"size": size}, size) for size in [half, half, 1, half, half, 1, 1, 1, 1, 1, 8 * half, 1])
    Ahead[int](submit, lambda _: None, calls, 3, float("inf")).fill()
    assert sizes == [[half, half], [1, half, half], [1, 1, 1], [1, 1, 8 * half], [1]]


def test_a_request_that_is_too_large_all_the_same_is_halved(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobrunner.executor.ahead.BATCH_BYTES", 1 << 30)
    assert list(executor.map(length, ["x" * 800_000] * 45)) == [800_000] * 45


def test_a_map_that_is_left_early_cancels_what_has_not_begun(executor: Executor, holds: Holds) -> None:
    names = ["", *(holds.args(f"{number}")[1] for number in range(6))]
    results = executor.map(held, itertools.repeat(holds.folder), names)
    assert next(results) == ""
    # For a moment a worker may have been given more than it runs.
    eventually(lambda: states(executor) == ["queued"] * 4 + ["running"] * 2 + ["succeeded"], 30)
    results.close()  # type: ignore[attr-defined]
    assert states(executor) == ["cancelled"] * 4 + ["running"] * 2 + ["succeeded"]
