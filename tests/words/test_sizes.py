from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.sizes import in_bytes, in_words

POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@given(
    st.integers(0, 10**15 - 1),
    st.sampled_from(sorted(POWERS)),
    st.sampled_from(["", "B", "iB", "b"]),
    st.sampled_from(["", " ", "  "]),
    st.booleans(),
)
def test_a_number_with_a_unit_is_so_many_powers_of_1024(
    number: int, unit: str, ending: str, gap: str, lower: bool
) -> None:
    text = f" {number}{gap}{unit}{ending} "
    assert in_bytes(text.lower() if lower else text) == number * 1024 ** POWERS[unit]


@given(st.integers())
def test_a_whole_number_is_taken_as_it_is(number: int) -> None:
    assert in_bytes(number) == number


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            "G",
            "iB",
            "1.5G",
            "-1",
            "+1",
            "1e3",
            "1 2",
            "1KK",
            "1X",
            "0x10",
            "1_000",
            "1G!",
            "1\nG\n1",
        ),
        *("9" * 16, "٣", "1\u212a", "1\u212ab", "1K\u0131B"),
        *(True, False, None, 1.5, 2.0, b"1K", [1], {"bytes": 1}),
    ],
)
def test_whatever_is_no_size_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r".*"):
        in_bytes(value)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KB"),
        (1536, "1.5 KB"),
        (1 << 20, "1.0 MB"),
        (int(1.5 * 2**30), "1.5 GB"),
        (3 << 40, "3.0 TB"),
        (5000 << 40, "5000.0 TB"),
        (-2048, "-2.0 KB"),
    ],
)
def test_a_size_is_told_in_the_largest_unit_that_leaves_one_of_it(count: int, words: str) -> None:
    assert in_words(count) == words


@given(st.integers(0, 2**53))
def test_words_name_the_size_to_one_decimal(count: int) -> None:
    number, unit = in_words(count).split()
    scale = 1024 ** ["bytes", "KB", "MB", "GB", "TB"].index(unit)
    assert float(number) * scale == pytest.approx(count, abs=0.051 * scale)
