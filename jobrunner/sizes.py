"""Sizes as people write them: `4096`, `64K`, `512 MB`, `2GiB`."""

import re
from typing import Any, Final

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE: Final = re.compile(r"([0-9]{1,15})\s*([KMGT]?)(?:i?B)?", re.IGNORECASE | re.ASCII)


def in_bytes(value: Any) -> int:
    """Return the bytes that `value` names: a whole number, or a text; each unit is a power of 1024.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(value)
    return int(match[1]) * _UNITS[match[2].upper()]


def in_words(count: float) -> str:
    """Return a size in the largest unit that leaves at least 1 of it, for people: `1.5 MB`."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"
