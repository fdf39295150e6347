"""From a task's value to JSON.

JSON has no NaN and no Infinity: they become `null`, as in JavaScript and every fast encoder.  numpy scalars
and arrays (and whatever else has `tolist`) become numbers and lists; dataclasses objects; datetimes, dates
and times ISO 8601; timedeltas seconds; enums their value; paths, UUIDs and decimals texts; sets lists.
Bytes are refused: a task says itself which text stands for them.
"""

import dataclasses
import decimal
import enum
import itertools
import json
import math
import pathlib
import uuid
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

from jobrunner.errors import UnserializableError

MOST_BITS = 14_280  #: of a whole number: Python itself writes and reads 4300 digits
MOST_LEVELS = 500  #: of lists and objects in each other: the decoders on the way to the reader go near 1000
_AS_TEXT = (pathlib.PurePath, uuid.UUID, decimal.Decimal)
_AS_ISO = (datetime, date, time)
_AS_LIST = (set, frozenset)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one level down, one up, as signed bytes
_NO_MARKS = bytes(set(range(256)) - set(b'[{]}"'))


class _NoJsonError(Exception):
    """The value has no form in JSON."""


def to_json(value: Any, name: str) -> str:
    """Return `value` as one line of JSON.

    Args:
        value: what a task returned or yielded.
        name: what to call the whole value in an error, such as `result`.

    Raises:
        UnserializableError: some part cannot become JSON; the message says where it is.
    """
    if value is None:  # which many tasks return
        return "null"
    text = _encoded(value, name)
    if _is_deep(text):
        raise _too_deep(name)
    return text


def _encoded(value: Any, name: str) -> str:
    try:
        text = _fast(value)
    except (TypeError, ValueError, RecursionError, _NoJsonError):
        pass  # a NaN or an odd key, which the walk mends, or something that it can name the place of
    else:
        if "\\ud" not in text:  # else half of a surrogate pair may be in it
            return text
    try:
        return json.dumps(_plain(value, name, frozenset()), allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise _too_deep(name) from None


def _too_deep(name: str) -> UnserializableError:
    return UnserializableError(f"{name} is nested too deeply for JSON: the most is {MOST_LEVELS} levels")


def _is_deep(text: str) -> bool:
    """Return whether some JSON has more than MOST_LEVELS; a task may have raised the recursion limit that bounds it."""
    if text.count("[") + text.count("{") <= MOST_LEVELS:
        return False
    unescaped = text.replace("\\\\", "").replace('\\"', "").encode()
    marks = unescaped.translate(_STEPS, _NO_MARKS).replace(b'""', b"")  # most texts hold no bracket
    outside_texts = b"".join(marks.split(b'"')[::2])
    return max(itertools.accumulate(memoryview(outside_texts).cast("b")), default=0) > MOST_LEVELS


def _simple(value: Any) -> Any:  # noqa: PLR0911 - a table of types, one line each
    """Return a value made of plainer ones, for a type that JSON does not have."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, _AS_ISO):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, _AS_TEXT):
        return str(value)
    if isinstance(value, _AS_LIST):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    tolist = getattr(value, "tolist", None)
    if callable(tolist) and not isinstance(value, type | memoryview):
        made = tolist()
        return float(made) if type(made) is type(value) else made  # numpy's longdouble stays what it is
    raise _NoJsonError


_fast = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_simple).encode


def _plain(value: Any, path: str, above: frozenset[int]) -> Any:
    """Return `value` made of dict, list, str, int, float, bool and None alone, or say where it cannot be."""
    if value is None or (isinstance(value, bool | str | int) and not isinstance(value, enum.Enum)):
        return _checked(value, path)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if id(value) in above:
        raise UnserializableError(f"{path} contains itself")
    inside = above | {id(value)}
    if isinstance(value, dict):
        return {_key(key, path): _plain(item, f"{path}[{key!r}]", inside) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{index}]", inside) for index, item in enumerate(value)]
    try:
        simple = _simple(value)
    except _NoJsonError:
        raise UnserializableError(f"{path} is {_described(value)}, which has no form in JSON") from None
    return _plain(simple, path, inside)


def _checked(value: Any, path: str) -> Any:
    """Return a text, a whole number, a bool or None if it can be written."""
    if isinstance(value, str):
        return _checked_text(value, path)
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise UnserializableError(f"{path} is a number of more than 4300 digits: return a text of it instead")
    return value


def _checked_text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UnserializableError(f"{path} holds half a surrogate pair, which is no text to UTF-8") from None
    return str(value)


def _key(key: Any, path: str) -> str:
    if isinstance(key, enum.Enum):
        key = key.value
    if not isinstance(key, str | int | float | bool | None) and hasattr(key, "item"):
        key = key.item()  # a numpy scalar
    if isinstance(key, str):
        return _checked_text(key, f"a key of {path}")
    if key is None or isinstance(key, bool | int | float):
        key = _checked(key, f"a key of {path}")
        return json.dumps(key, allow_nan=True)  # as the standard library does: 1 -> "1", True -> "true"
    if isinstance(key, (*_AS_TEXT, *_AS_ISO)):
        return str(_simple(key))
    raise UnserializableError(f"{path} has the key {key!r:.100}: JSON allows only texts")


def _described(value: Any) -> str:
    kind = type(value)
    article = "an" if kind.__name__[:1] in "aeiouAEIOU" else "a"
    home = "" if kind.__module__ == "builtins" else f" ({kind.__module__})"
    return f"{article} {kind.__name__}{home}"
