import math
import statistics

import pytest

from jobrunner import current_job
from jobrunner.examples.pi import pi
from tests.examples.running import Told, drained, result


@pytest.mark.parametrize("seed", range(5))
def test_pi_is_within_five_standard_errors(seed: int) -> None:
    found = result(pi(samples=200_000, seed=seed))
    assert abs(found["estimate"] - math.pi) < 5 * found["standard_error"]


def test_the_standard_error_shrinks_with_the_square_root_of_the_samples() -> None:
    partials, _ = drained(pi(samples=1_600_000, batch=100_000, seed=1))
    errors = {partial["samples"]: partial["standard_error"] for partial in partials}
    assert errors[400_000] == pytest.approx(errors[100_000] / 2, rel=0.02)
    assert errors[1_600_000] == pytest.approx(errors[100_000] / 4, rel=0.02)


def test_the_standard_error_is_how_far_estimates_scatter() -> None:
    runs = [result(pi(samples=2_000, seed=seed)) for seed in range(400)]
    scatter = statistics.stdev(run["estimate"] for run in runs)
    said = statistics.mean(run["standard_error"] for run in runs)
    # A standard deviation from 400 runs is itself uncertain by 1 / sqrt(2 * 399), about 3.5 %.
    assert scatter == pytest.approx(said, rel=4 * 0.035)


def test_the_estimate_is_four_times_the_share_of_hits() -> None:
    found = result(pi(samples=1_000, seed=3))
    hits = found["estimate"] / 4 * 1_000
    assert hits == pytest.approx(round(hits), abs=1e-9)
    share = hits / 1_000
    assert found["standard_error"] == pytest.approx(4 * (share * (1 - share) / 1_000) ** 0.5)


def test_a_seed_gives_the_same_estimate_whatever_the_batch() -> None:
    assert result(pi(5_000, batch=5_000, seed=9)) == result(pi(5_000, batch=1_300, seed=9))
    assert result(pi(5_000, seed=9)) != result(pi(5_000, seed=10))


def test_without_a_seed_no_two_runs_are_the_same() -> None:
    assert len({result(pi(5_000))["estimate"] for _ in range(10)}) > 1


def test_each_batch_gives_a_partial_result_and_the_last_is_the_result() -> None:
    partials, found = drained(pi(5_000, batch=2_000, seed=1))
    assert [partial["samples"] for partial in partials] == [2_000, 4_000, 5_000]
    assert partials[-1] == found


def test_progress_is_told_in_samples(told: Told) -> None:
    result(pi(5_000, batch=2_000))
    current_job().flush()
    assert [told[0], told[-1]] == [(2_000, 5_000, None), (5_000, 5_000, None)]


@pytest.mark.parametrize(("samples", "batch"), [(0, 1), (1, 0), (-5, 10)])
def test_a_run_without_samples_is_refused(samples: int, batch: int) -> None:
    with pytest.raises(ValueError, match=f"must be at least 1, not {samples} and {batch}"):
        next(pi(samples, batch))
