"""Durations as people write them: `90`, `90s`, `15m`, `12h`, `7d`, `forever`."""

import math
import re
from typing import Any, Final

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WITH_UNIT: Final = re.compile(r"([0-9.]+)\s*([smhd])", re.ASCII)


def in_seconds(value: Any) -> float:
    """Return the seconds that `value` names: a number, or a text; infinite for `forever`.

    Raises:
        ValueError: it is neither, or negative.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(value)  # noqa: TRY004 - whoever reads settings catches one kind
    if value == "forever":
        return math.inf
    match = _WITH_UNIT.fullmatch(value.strip()) if isinstance(value, str) else None
    seconds = float(match[1]) * _UNITS[match[2]] if match else float(value)
    if not seconds >= 0:  # negative, or NaN
        raise ValueError(value)
    return seconds


def in_words(seconds: float) -> str:
    """Return what `in_seconds` takes for `seconds`, in the largest unit that gives a whole number: `7d`."""
    if math.isinf(seconds):
        return "forever"
    unit, length = next(
        ((unit, length) for unit, length in reversed(_UNITS.items()) if seconds and seconds % length == 0),
        ("s", 1),
    )
    return f"{seconds / length:.15g}{unit}"
