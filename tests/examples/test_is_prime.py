import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.examples.is_prime import how_many, is_prime
from jobrunner.examples.primes import primes
from tests.examples.running import result
from tests.examples.test_primes import PRIMES


def test_small_numbers_agree_with_trial_division() -> None:
    assert [n for n in range(3_000) if is_prime(n)] == PRIMES


@pytest.mark.parametrize("limit", [10**4, 10**5])
def test_as_many_are_found_as_the_sieve_finds(limit: int) -> None:
    assert how_many(map(is_prime, range(limit + 1))) == result(primes(limit))["count"]


@pytest.mark.parametrize(
    ("n", "wanted"),
    [
        (2**31 - 1, True),
        (2**59 - 55, True),  # the largest below 2^59
        (10**18 - 11, True),  # the largest below 10^18
        (2**31 + 1, False),
        (561, False),  # a Carmichael number
        (3_215_031_751, False),  # passes for 2, 3, 5 and 7: OEIS A014233, as are these
        (3_474_749_660_383, False),
        (341_550_071_728_321, False),
        ((2**29 - 3) * (2**29 - 3), False),
    ],
)
def test_large_numbers_and_those_that_fool_a_weaker_test(n: int, wanted: bool) -> None:
    assert is_prime(n) is wanted


@given(st.integers(2, 10**9), st.integers(2, 10**9))
def test_a_product_is_not_prime(one: int, other: int) -> None:
    assert not is_prime(one * other)


def test_what_is_true_is_counted() -> None:
    assert how_many(iter([True, False, True])) == 2
    assert how_many(iter([])) == 0
