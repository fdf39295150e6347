import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.durations import in_seconds, in_words

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@given(st.integers(0, 10**9), st.sampled_from(sorted(SECONDS)), st.sampled_from(["", " "]))
def test_a_number_with_a_unit_is_so_many_seconds(number: int, unit: str, gap: str) -> None:
    assert in_seconds(f" {number}{gap}{unit} ") == number * SECONDS[unit]


@given(st.floats(0, 1e9))
def test_a_number_is_so_many_seconds(number: float) -> None:
    assert in_seconds(number) == number


def test_a_fraction_of_a_unit_is_understood() -> None:
    assert in_seconds("1.5h") == 5400


@pytest.mark.parametrize("value", ["forever", "inf", math.inf])
def test_forever_is_infinite(value: Any) -> None:
    assert in_seconds(value) == math.inf


@given(st.floats(0))
def test_what_a_process_hands_to_its_child_is_understood(seconds: float) -> None:
    assert in_seconds(str(in_seconds(seconds))) == seconds


@pytest.mark.parametrize(
    "value", ["", " ", "d", "-1", "1w", "7 days", "1d12h", "nan", -1, math.nan, True, None, []]
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r".*"):
        in_seconds(value)


@given(st.integers(0, 10**12), st.sampled_from(sorted(SECONDS.values())))
def test_what_is_put_into_words_is_understood(number: int, unit: int) -> None:
    assert in_seconds(in_words(number * unit)) == number * unit


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (0.5, "0.5s"), (90, "90s"), (5400, "90m"), (604800.0, "7d"), (math.inf, "forever")],
)
def test_a_duration_is_told_in_the_largest_unit_that_fits(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
