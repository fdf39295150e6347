import array
import collections
import decimal
import math
import types
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrunner.errors import UnserializableError
from jobrunner.tasks.encoding import to_json
from tests.words.odd_values import Colour, Level, Pair, Point, Rights, Slotted, Word, read, written

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
