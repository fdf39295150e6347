import array
import collections
import dataclasses
import decimal
import enum
import fractions
import json
import math
import types
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrunner.errors import UnserializableError
from jobrunner.tasks.encoding import to_json


class Colour(enum.Enum):
    RED = "red"
    NOTHING = None
    NAN = math.nan


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: float
    y: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    name: str


class Pair(NamedTuple):
    left: int
    right: int


class Custom:
    pass


def refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def read(text: str) -> Any:
    """Read JSON as strict readers do."""
    assert text.isascii()
    assert text.isprintable()
    value = json.loads(text, parse_constant=refuse_constant)
    msgspec.json.decode(text)
    return value


def written(value: Any) -> Any:
    """What a reader finds of `value`."""
    return read(to_json(value, "result"))


# -- values that JSON has ----------------------------------------------------------------------


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_json_comes_back_as_it_was(value: Any) -> None:
    found = written(value)
    assert found == value
    assert repr(found) == repr(value)  # which tells 1 from 1.0 and from True, and 0.0 from -0.0


def test_json_is_written_without_blanks() -> None:
    assert to_json({"a": [1, 2.5, None, True], "b": "ä\n\u2028"}, "result") == (
        '{"a":[1,2.5,null,true],"b":"\\u00e4\\n\\u2028"}'
    )


# -- values that JSON does not have ------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ((1, (2, 3)), [1, [2, 3]]),
        (Pair(1, 2), [1, 2]),
        ({1}, [1]),
        (frozenset({"a"}), ["a"]),
        (Colour.RED, "red"),
        (Colour.NOTHING, None),
        (Level.HIGH, 3),
        (Word.YES, "yes"),
        (Rights.READ | Rights.WRITE, 3),
        (Point(1.5, [Point(2.0)]), {"x": 1.5, "y": [{"x": 2.0, "y": None}]}),
        (Slotted("a"), {"name": "a"}),
        (datetime(2026, 1, 31, 12, 30, 0, 250_000, tzinfo=UTC), "2026-01-31T12:30:00.250000+00:00"),
        (datetime(2026, 1, 31, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T00:00:00+02:00"),
        (datetime(2026, 1, 31, 12), "2026-01-31T12:00:00"),  # noqa: DTZ001 - a task may return one
        (date(2026, 1, 31), "2026-01-31"),
        (time(12, 30), "12:30:00"),
        (timedelta(minutes=1, milliseconds=500), 60.5),
        (Path("out/a.png"), "out/a.png"),
        (PurePosixPath("/a"), "/a"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.10"), "1.10"),
        (types.MappingProxyType({"a": {1}}), {"a": [1]}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (collections.UserDict({"a": 1}), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (array.array("d", [1.5, 2.5]), [1.5, 2.5]),
    ],
)
def test_what_json_does_not_have_is_written_as_promised(value: Any, found: Any) -> None:
    assert written(value) == found
    assert written([{"deep": value}]) == [{"deep": found}]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.int64(-3), -3),
        (np.uint8(255), 255),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("ä"), "ä"),
        (np.array([1, 2, 3]), [1, 2, 3]),
        (np.array([[1.5], [2.5]]), [[1.5], [2.5]]),
        (np.array([], dtype=np.float32), []),
        (np.array(7), 7),
        (np.array([True, False]), [True, False]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([0.5], dtype=np.longdouble), [0.5]),
        (np.array([{"a": {1}}, None], dtype=object), [{"a": [1]}, None]),
        (np.array([(1, 2.5)], dtype=[("n", int), ("x", float)]), [[1, 2.5]]),
        (np.ma.masked_array([1, 2], mask=[False, True]), [1, None]),
        (np.datetime64("2026-01-31"), "2026-01-31"),
        (np.array([1.0, math.nan, math.inf]), [1.0, None, None]),
        (np.float32(math.nan), None),
    ],
)
def test_what_numpy_makes_is_written_as_numbers_texts_and_lists(value: Any, found: Any) -> None:
    assert written(value) == found
    assert written({"deep": (value,)}) == {"deep": [found]}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_become_null(value: float) -> None:
    assert written(value) is None
    assert written({"loss": [1.0, value]}) == {"loss": [1.0, None]}
    assert written(Point(value, (value,))) == {"x": None, "y": [None]}
    assert written(Colour.NAN) is None


def test_a_class_may_say_itself_what_it_is_made_of() -> None:
    class Matrix:
        def tolist(self) -> list[list[int]]:
            return [[1, 2], [3, 4]]

    assert written({"m": Matrix()}) == {"m": [[1, 2], [3, 4]]}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("", ""),
        (1, "1"),
        (1.5, "1.5"),
        (True, "true"),
        (None, "null"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (Word.YES, "yes"),
        (Colour.RED, "red"),
        (Level.HIGH, "3"),
        (np.int64(3), "3"),
        (np.float32(0.5), "0.5"),
        (np.str_("a"), "a"),
        (date(2026, 1, 31), "2026-01-31"),
        (datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00+00:00"),
        (Path("a/b"), "a/b"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (decimal.Decimal("1.10"), "1.10"),
    ],
)
def test_a_key_that_is_no_text_becomes_one(key: Any, name: str) -> None:
    assert written({key: 1}) == {name: 1}
    assert written([{key: math.nan}]) == [{name: None}]  # by the other way through


# -- what is refused, and where it is -----------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"x", r"result is a bytes, which has no form in JSON"),
        (bytearray(b"x"), r"result is a bytearray, which has no form in JSON"),
        (memoryview(b"x"), r"result is a memoryview, which has no form in JSON"),
        (1j, r"result is a complex, which has no form in JSON"),
        (object(), r"result is an object, which has no form in JSON"),
        (Custom(), r"result is a Custom \(tests\.words\.test_encoding\), which has no form in JSON"),
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


def test_a_class_whose_parts_never_end_is_refused() -> None:
    class Endless:
        def tolist(self) -> Any:
            return [Endless()]

    with pytest.raises(UnserializableError, match="result is nested too deeply"):
        to_json(Endless(), "result")


# -- whatever a task may return -----------------------------------------------------------------


any_float = st.floats()
keys = st.one_of(
    st.text(),
    st.none(),
    st.booleans(),
    st.integers(),
    any_float,
    st.dates(),
    st.uuids(),
    st.sampled_from([Word.YES, Colour.RED, Level.HIGH]),
    st.integers(-5, 5).map(np.int32),
)
leaves = st.one_of(
    keys,
    st.text(st.characters(min_codepoint=0xD700, max_codepoint=0xE000, exclude_categories=()), max_size=3),
    st.binary(max_size=2),
    st.complex_numbers(),
    st.datetimes() | st.datetimes(timezones=st.just(UTC)),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.builds(Path, st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=5)),
    any_float.map(np.float64),
    st.floats(width=32).map(np.float32),
    st.lists(any_float, max_size=3).map(np.array),
    st.frozensets(st.integers() | any_float, max_size=3),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3).map(types.MappingProxyType),
        st.builds(Point, any_float, inner),
    ),
    max_leaves=10,
)


@settings(max_examples=400)
@given(values)
def test_whatever_is_returned_becomes_one_line_of_strict_json_or_is_refused(value: Any) -> None:
    try:
        text = to_json(value, "result")
    except UnserializableError as refused:
        told = str(refused)
    else:
        read(text)
        return
    assert told.startswith("result")


@given(st.dictionaries(st.text(), any_float | st.integers(), max_size=5), st.booleans())
def test_the_fast_way_and_the_thorough_one_write_the_same(value: Mapping[str, Any], proxied: bool) -> None:
    """A NaN somewhere sends the whole value the thorough way."""
    given_value = types.MappingProxyType(value) if proxied else value
    fast, thorough = to_json([given_value], "result"), to_json([given_value, math.nan], "result")
    assert thorough == f"{fast[:-1]},null]"
