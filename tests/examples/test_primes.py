import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrunner import current_job
from jobrunner.examples.primes import primes
from tests.examples.running import Told, drained, result


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


PRIMES = [number for number in range(3_000) if is_prime(number)]


def up_to(n: int) -> dict[str, int | None]:
    below = [prime for prime in PRIMES if prime <= n]
    return {"count": len(below), "largest": below[-1] if below else None}


@pytest.mark.parametrize(
    ("n", "count", "largest"),
    [  # OEIS A006880 and A003618
        (10, 4, 7),
        (100, 25, 97),
        (1_000, 168, 997),
        (10_000, 1_229, 9_973),
        (100_000, 9_592, 99_991),
        (1_000_000, 78_498, 999_983),
        (10_000_000, 664_579, 9_999_991),
        (100_000_000, 5_761_455, 99_999_989),
    ],
)
def test_the_counts_are_the_known_ones(n: int, count: int, largest: int) -> None:
    assert result(primes(n)) == {"count": count, "largest": largest}


@pytest.mark.parametrize("n", range(130))
def test_small_limits_agree_with_trial_division(n: int) -> None:
    assert result(primes(n)) == up_to(n)


@given(n=st.integers(0, 2_999), segment=st.integers(1, 400))
@settings(deadline=None)
def test_the_length_of_a_segment_changes_no_count(n: int, segment: int) -> None:
    partials, found = drained(primes(n, segment))
    assert found == up_to(n)
    for partial in partials:
        assert partial["count"] == up_to(partial["last"])["count"]


@pytest.mark.parametrize("n", [999, 1_000, 1_001, 1_002, 1_999, 2_000, 2_001, 2_002])
def test_a_limit_at_the_edge_of_a_segment_loses_and_doubles_nothing(n: int) -> None:
    assert result(primes(n, segment=1_000)) == up_to(n)


def test_the_segments_follow_each_other_without_a_gap() -> None:
    partials, _ = drained(primes(2_500, segment=1_000))
    assert [(partial["first"], partial["last"]) for partial in partials] == [
        (2, 1_001),
        (1_002, 2_001),
        (2_002, 2_500),
    ]
    assert sum(partial["primes"] for partial in partials) == partials[-1]["count"]


def test_a_segment_without_a_prime_keeps_the_largest() -> None:
    # 1328 to 1360 is a gap: the primes around it are 1327 and 1361.
    partials, found = drained(primes(1_360, segment=10))
    assert partials[-1]["primes"] == 0
    assert found["largest"] == 1_327


def test_progress_is_told_in_numbers(told: Told) -> None:
    result(primes(2_500, segment=1_000))
    current_job().flush()
    assert [told[0], told[-1]] == [(1_001, 2_500, None), (2_500, 2_500, None)]


@pytest.mark.parametrize(("n", "segment"), [(-1, 1_000), (10, 0)])
def test_numbers_that_make_no_sense_are_refused(n: int, segment: int) -> None:
    with pytest.raises(ValueError, match=f"not {n} and {segment}"):
        next(primes(n, segment))
