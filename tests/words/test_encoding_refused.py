"""What cannot become JSON is refused, and the message says where it is."""

import fractions
import json
import math
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import pytest

from jobrunner.errors import UnserializableError
from jobrunner.tasks.encoding import MOST_LEVELS, to_json
from tests.words.odd_values import Custom, Point, written


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"x", r"result is a bytes, which has no form in JSON"),
        (bytearray(b"x"), r"result is a bytearray, which has no form in JSON"),
        (memoryview(b"x"), r"result is a memoryview, which has no form in JSON"),
        (1j, r"result is a complex, which has no form in JSON"),
        (object(), r"result is an object, which has no form in JSON"),
        (Custom(), r"result is a Custom \(tests\.words\.odd_values\), which has no form in JSON"),
        (Custom, r"result is a type, which has no form in JSON"),
        (np.ndarray, r"result is a type, which has no form in JSON"),
        (Point, r"result is a type, which has no form in JSON"),
        (fractions.Fraction(1, 3), r"result is a Fraction \(fractions\), which has no form in JSON"),
        ((n for n in "ab"), r"result is a generator, which has no form in JSON"),
        (range(3), r"result is a range, which has no form in JSON"),
        ({"models": [1, Custom()]}, r"result\['models'\]\[1\] is a Custom "),
        ((1, {2: {"x": b""}}), r"result\[1\]\[2\]\['x'\] is a bytes"),
        ([math.nan, {"a": b""}], r"result\[1\]\['a'\] is a bytes"),
        (Point(1.0, {"a": b""}), r"result\['y'\]\['a'\] is a bytes"),
        (np.array([1, b"x"], dtype=object), r"result\[1\] is a bytes"),
        (np.array([1j]), r"result\[0\] is a complex"),
        ({(1, 2): 3}, r"result has the key \(1, 2\): JSON allows only texts"),
        ({"a": {b"k": 3}}, r"result\['a'\] has the key b'k': JSON allows only texts"),
        (
            {"a": {timedelta(1): 3}},
            r"result\['a'\] has the key datetime\.timedelta\(days=1\): JSON allows only",
        ),
    ],
)
def test_what_cannot_become_json_is_refused_with_its_place(value: Any, why: str) -> None:
    with pytest.raises(UnserializableError, match=why):
        to_json(value, "result")


def test_a_number_too_long_to_be_read_again_is_refused_with_its_place() -> None:
    too_long = 10**5000  # Python reads and writes no more than 4300 digits
    for value, place in (
        (too_long, "result"),
        ({"primes": [2, too_long]}, r"result\['primes'\]\[1\]"),
        ([{too_long: 1}], r"result\[0\]"),
    ):
        with pytest.raises(UnserializableError, match=rf"^(a key of )?{place} .*4300 digits"):
            to_json(value, "result")
    assert written(too_long // 10**701) == 10**4299


def test_half_a_surrogate_pair_is_refused_with_its_place() -> None:
    name = b"caf\xe9.txt".decode(
        "utf-8", "surrogateescape"
    )  # as Python hands out a file name that is no UTF-8
    for value, place in (
        (name, "result"),
        ({"files": ["a", name]}, r"result\['files'\]\[1\]"),
        ([{name: 1}], r"result\[0\]"),
    ):
        with pytest.raises(UnserializableError, match=rf"^(a key of )?{place} .*half a surrogate pair"):
            to_json(value, "result")
    assert written(["\U0001f600", r"\ud800"]) == ["\U0001f600", r"\ud800"]


def test_the_error_calls_the_value_by_the_name_that_it_is_given() -> None:
    with pytest.raises(UnserializableError, match=r"^partial result 3\['a'\] is a bytes"):
        to_json({"a": b""}, "partial result 3")


def test_a_key_that_is_long_is_not_quoted_in_full() -> None:
    with pytest.raises(UnserializableError) as caught:
        to_json({(0,) * 10_000: 1}, "result")
    assert len(str(caught.value)) < 200


def a_list() -> Any:
    inner: list[Any] = []
    inner.append(inner)
    return inner


def a_dict() -> Any:
    inner: dict[str, Any] = {}
    inner["me"] = [inner]
    return inner


def a_dataclass() -> Any:
    point = Point(1.0)
    point.y = {"self": point}
    return point


def an_array() -> Any:
    found = np.array([None], dtype=object)
    found[0] = found
    return found


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (a_list(), r"result\[0\]"),
        ({"a": a_list()}, r"result\['a'\]\[0\]"),
        (a_dict(), r"result\['me'\]\[0\]"),
        (a_dataclass(), r"result\['y'\]\['self'\]"),
        (an_array(), r"result\[0\]"),
    ],
)
def test_a_value_that_contains_itself_is_refused_with_the_place(value: Any, place: str) -> None:
    with pytest.raises(UnserializableError, match=rf"^{place} contains itself$"):
        to_json(value, "result")


def test_a_value_that_is_there_twice_does_not_contain_itself() -> None:
    shared = [math.nan]
    assert written([shared, {"a": shared}, (shared, shared)]) == [[None], {"a": [None]}, [[None], [None]]]


def nested(depth: int, leaf: Any) -> Any:
    value = leaf
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("leaf", [1, math.nan, Point(1.0), b""])
@pytest.mark.parametrize("depth", [10_000, 100_000])
def test_a_value_that_is_nested_too_deeply_is_refused(leaf: Any, depth: int) -> None:
    with pytest.raises(UnserializableError, match="result is nested too deeply for JSON"):
        to_json(nested(depth, leaf), "result")


@pytest.mark.parametrize("leaf", [1, math.nan, Point(1.0)])
def test_a_value_that_is_nested_a_hundred_deep_is_not_too_deep(leaf: Any) -> None:
    assert written(nested(100, leaf)) == nested(100, written(leaf))


@pytest.fixture
def much_recursion() -> Iterator[None]:
    """As a task has it that works on deep trees."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(before)


# Each is one level, and none of the brackets and quotes in its texts counts.
LEVELS = [
    ("[", "]"),
    ('{"a":', "}"),
    ('["]",', ',"["]'),
    ('{"}]":', ',"[{":1}'),
    (r'["\\","\"]",', r',"\\\"[","["]'),
    ('[[],{},"[","",', ',"]"]'),
]


@pytest.mark.usefixtures("much_recursion")
@pytest.mark.parametrize(("before", "after"), LEVELS)
@pytest.mark.parametrize("depth", [MOST_LEVELS + 1, 2 * MOST_LEVELS, 3000])
def test_a_task_that_may_recurse_more_gives_nothing_deeper_than_its_worker_reads(
    before: str, after: str, depth: int
) -> None:
    value = json.loads(before * depth + "1" + after * depth)
    for whole in (value, ["x", value]):
        with pytest.raises(UnserializableError, match=r"^partial result 3 is nested too deeply for JSON"):
            to_json(whole, "partial result 3")


@pytest.mark.parametrize(("before", "after"), LEVELS)
def test_what_is_as_deep_as_may_be_is_read_again(before: str, after: str) -> None:
    text = before * (MOST_LEVELS - 1) + "{}" + after * (MOST_LEVELS - 1)
    written_again = to_json(json.loads(text), "result")
    assert written_again == text
    assert msgspec.json.decode(written_again) == json.loads(text)


def test_brackets_in_texts_are_no_levels() -> None:
    for value in ("[" * 3000, ["[{" * 3000] * 3, {'"[' * 600: ["\\[" * 600, '\\"{' * 600]}):
        assert written(value) == value


def test_a_class_whose_parts_never_end_is_refused() -> None:
    class Endless:
        def tolist(self) -> Any:
            return [Endless()]

    with pytest.raises(UnserializableError, match="result is nested too deeply"):
        to_json(Endless(), "result")
