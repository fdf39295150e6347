"""Fields that name jobs: by id, or by label."""

import re
from collections.abc import Iterable
from typing import Any, Final

from marshmallow import ValidationError

from jobrunner.api.fields import PRINTABLE, Strict, is_printable, whole

_MAX_ID: Final = 10**18 - 1
_ID_RANGE: Final = re.compile(r"([1-9][0-9]{0,17})(?:(-)([1-9][0-9]{0,17})?)?")
_LABEL_KEY: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Labels(Strict):
    """Labels by key."""

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(f"an object of at most {most} labels", **options)
        self._most = most

    def read(self, value: Any) -> dict[str, str]:
        """Take a dict of texts; name each key that is at fault."""
        if type(value) is not dict or len(value) > self._most:
            raise TypeError
        flaws = {key: [flaw] for key, label in value.items() if (flaw := _label_flaw(key, label))}
        if flaws:
            raise ValidationError(flaws)
        return value

    def json_schema(self) -> dict[str, Any]:
        """Allow the number, the keys and the values."""
        return {
            "type": "object",
            "maxProperties": self._most,
            "propertyNames": {"pattern": f"^{_LABEL_KEY.pattern}$"},
            "additionalProperties": {"type": "string", "maxLength": 200, "pattern": PRINTABLE},
        }


class Ids(Strict):
    """Ids of jobs in a query string, as `3,5-9,12-`."""

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(f"at most {most} ids or ranges of ids, such as 3,5-9,12-", **options)
        self._most = most

    def read(self, value: Any) -> list[tuple[int, int]]:
        """Return the first and the last of each range, none of which touch; without an end it ends where all ids do."""
        parts = value.split(",")
        matches = [_ID_RANGE.fullmatch(part) for part in parts[: self._most]]
        if len(parts) > self._most or None in matches:
            raise ValueError
        return _merged(_first_and_last(match) for match in matches if match is not None)

    def json_schema(self) -> dict[str, Any]:
        """Allow the form and the number."""
        one = _ID_RANGE.pattern
        return {"type": "string", "pattern": f"^{one}(,{one}){{0,{self._most - 1}}}$"}


def _first_and_last(match: re.Match[str]) -> tuple[int, int]:
    first, dash, last = match.groups()
    return int(first), int(last or _MAX_ID) if dash else int(first)


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same ids in ascending ranges that do not touch."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if first > last:
            continue
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


class ListedIds(Strict):
    """Ids of jobs in a body."""

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(f"a list of at most {most} ids of jobs", **options)
        self._most = most

    def read(self, value: Any) -> list[int]:
        """Take a list of ints, each once."""
        if type(value) is not list or len(value) > self._most:
            raise TypeError
        ids = {whole(one) for one in value}
        if not all(0 < one <= _MAX_ID for one in ids):
            raise ValueError
        return sorted(ids)

    def json_schema(self) -> dict[str, Any]:
        """Allow the ids and their number."""
        one = {"type": "integer", "minimum": 1, "maximum": _MAX_ID}
        return {"type": "array", "maxItems": self._most, "items": one}


class LabelPair(Strict):
    """One label in a query string, as `key:value`."""

    def __init__(self, **options: Any) -> None:
        super().__init__("key:value, as a job was labelled", **options)

    def read(self, value: Any) -> tuple[str, str]:
        """Split at the first colon, which no key has."""
        key, colon, label = value.partition(":")
        if not colon or _label_flaw(key, label):
            raise ValueError
        return key, label

    def json_schema(self) -> dict[str, Any]:
        """Allow a key and a value."""
        value = PRINTABLE.removeprefix("^").removesuffix("*$")
        return {"type": "string", "pattern": f"^{_LABEL_KEY.pattern}:{value}{{0,200}}$"}


def _label_flaw(key: str, value: Any) -> str | None:
    if not _LABEL_KEY.fullmatch(key):
        return "a label's key must be 1 to 100 of the characters A-Z a-z 0-9 . _ -"
    if type(value) is not str or len(value) > 200 or not is_printable(value):
        return "a label's value must be a text of at most 200 characters, none of them a control character"
    return None
