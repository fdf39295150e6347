"""Fields for marshmallow that take JSON as it is: no `"5"` for 5, no `true` for 1, no naive time.

marshmallow's own fields coerce; these say in one sentence what they take.
"""

import re
import unicodedata
from abc import abstractmethod
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from marshmallow import ValidationError, fields

from jobrunner import sizes

TEN_YEARS_SECONDS: Final = 315_576_000
_RFC_3339: Final = re.compile(  # without leap seconds, and in years which are the same ones in UTC
    r"(?!0000|0001|9999)[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])[Tt]"
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)
PRINTABLE: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"  #: a pattern
_SIZE_IN_WORDS: Final = re.compile(
    "[1-9][0-9]{0,5} ?[MGTmgt](?:i?[Bb])?"
)  # from a megabyte to less than an exabyte
_MEGABYTE, _EXABYTE = 1 << 20, 1 << 60
_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


class Strict(fields.Field[Any]):
    """Refuses with `must be` and what is allowed."""

    def __init__(self, allowed: str, **options: Any) -> None:
        or_null = ", or null" if options.get("allow_none") else ""
        null = f"must be {allowed}".translate({ord("{"): "{{", ord("}"): "}}"})  # marshmallow formats it
        super().__init__(error_messages={"required": "is required", "null": null}, **options)
        self.refusal = f"must be {allowed}{or_null}"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return self.read(value)
        except (ValueError, TypeError, OverflowError):
            raise ValidationError(self.refusal) from None

    @abstractmethod
    def read(self, value: Any) -> Any:
        """Return what `value` means; raise ValueError, TypeError or OverflowError if it is not allowed."""

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """Return what is allowed as JSON Schema 2020-12, but for null."""


class Whole(Strict):
    """A whole number."""

    def __init__(self, least: int, most: int, **options: Any) -> None:
        super().__init__(f"a whole number from {least} to {most}", **options)
        self._least, self._most = least, most

    def read(self, value: Any) -> int:
        """Take an int, or what is the same to JSON: 3.0 for 3."""
        number = whole(value)
        if not self._least <= number <= self._most:
            raise ValueError
        return number

    def json_schema(self) -> dict[str, Any]:
        """Allow the range."""
        return {"type": "integer", "minimum": self._least, "maximum": self._most}


class Digits(Whole):
    """A whole number in a query string."""

    def read(self, value: Any) -> int:
        """Take ASCII digits alone."""
        if not re.fullmatch("[0-9]{1,20}", value):
            raise ValueError
        return super().read(int(value))


class TrueOrFalse(Strict):
    """Yes or no."""

    def __init__(self, **options: Any) -> None:
        super().__init__("true or false", **options)

    def read(self, value: Any) -> bool:
        """Take a bool alone."""
        if type(value) is not bool:
            raise TypeError
        return value

    def json_schema(self) -> dict[str, Any]:
        """Allow both."""
        return {"type": "boolean"}


class Flag(Strict):
    """Yes or no in a query string."""

    def __init__(self, **options: Any) -> None:
        super().__init__("true or false", **options)

    def read(self, value: Any) -> bool:
        """Take `true`, `1`, `false` or `0`."""
        if value not in _FLAGS:
            raise ValueError
        return _FLAGS[value]

    def json_schema(self) -> dict[str, Any]:
        """Allow the words."""
        return {"enum": list(_FLAGS)}


class Seconds(Strict):
    """A duration."""

    def __init__(self, most: float, *, above_zero: bool = False, **options: Any) -> None:
        least = "above 0" if above_zero else "from 0"
        super().__init__(f"a number of seconds {least} to {most:g}", **options)
        self._most, self._above_zero = most, above_zero

    def read(self, value: Any) -> float:
        """Take a number that is no bool."""
        if (
            type(value) not in (int, float)
            or not 0 <= value <= self._most
            or (self._above_zero and not value)
        ):
            raise ValueError
        return float(value)

    def json_schema(self) -> dict[str, Any]:
        """Allow the range."""
        least = "exclusiveMinimum" if self._above_zero else "minimum"
        return {"type": "number", least: 0, "maximum": self._most}


class Word(Strict):
    """A short text without control characters."""

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(f"a text of 1 to {most} characters, none of them a control character", **options)
        self._most = most

    def read(self, value: Any) -> str:
        """Take a str."""
        if type(value) is not str or not 0 < len(value) <= self._most or not is_printable(value):
            raise ValueError
        return value

    def json_schema(self) -> dict[str, Any]:
        """Allow the length, without control characters."""
        return {"type": "string", "minLength": 1, "maxLength": self._most, "pattern": PRINTABLE}


class OneOf(Strict):
    """One of a few words."""

    def __init__(self, words: type[StrEnum], **options: Any) -> None:
        super().__init__(f"one of {', '.join(words)}", **options)
        self._words = words

    def read(self, value: Any) -> Any:
        """Take the enum's value."""
        return self._words(value)

    def json_schema(self) -> dict[str, Any]:
        """Allow the words."""
        return {"enum": list(self._words)}


class Moment(Strict):
    """A moment in RFC 3339 with its offset; read as UTC."""

    def __init__(self, **options: Any) -> None:
        super().__init__("a time with its offset from UTC, such as 2030-01-31T12:00:00Z", **options)

    def read(self, value: Any) -> datetime:
        """Take RFC 3339 alone, of all that ISO 8601 allows."""
        if not _RFC_3339.fullmatch(value):
            raise ValueError
        return datetime.fromisoformat(value.upper()).astimezone(UTC)

    def json_schema(self) -> dict[str, Any]:
        """Allow RFC 3339."""
        return {"type": "string", "format": "date-time", "pattern": f"^{_RFC_3339.pattern}$"}


class Size(Strict):
    """A number of bytes, from a megabyte to an exabyte, or a text such as `2G`."""

    def __init__(self, **options: Any) -> None:
        super().__init__("bytes, or a size such as 512M or 2G, at least 1M", **options)

    def read(self, value: Any) -> int:
        """Take a number, or a text with its unit."""
        if type(value) is str:
            if not _SIZE_IN_WORDS.fullmatch(value):
                raise ValueError
            return sizes.in_bytes(value)
        count = whole(value)
        if not _MEGABYTE <= count <= _EXABYTE:
            raise ValueError
        return count

    def json_schema(self) -> dict[str, Any]:
        """Allow bytes, or a size in words."""
        number = {"type": "integer", "minimum": _MEGABYTE, "maximum": _EXABYTE}
        return {"oneOf": [number, {"type": "string", "pattern": f"^{_SIZE_IN_WORDS.pattern}$"}]}


class JsonObject(Strict):
    """Any JSON object."""

    def __init__(self, **options: Any) -> None:
        super().__init__("an object", **options)

    def read(self, value: Any) -> dict[str, Any]:
        """Take a dict."""
        if type(value) is not dict:
            raise TypeError
        return value

    def json_schema(self) -> dict[str, Any]:
        """Allow every object."""
        return {"type": "object"}


def whole(value: Any) -> int:
    """Return the whole number that `value` is: 3.0 is 3 to JSON Schema, and no `true` is 1.

    Raises:
        ValueError: it is none.
    """
    if type(value) is int or (type(value) is float and value.is_integer()):
        return int(value)
    raise ValueError(value)


def is_printable(text: str) -> bool:
    """Whether no character of `text` is a control character."""
    return text.isprintable() or not any(unicodedata.category(one) == "Cc" for one in text)
