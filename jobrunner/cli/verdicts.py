"""What the demo submits, and whether a result is right: compared with a value from elsewhere."""

import base64
import importlib.util
import math
import os
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple


class Verdict(NamedTuple):
    """Whether a result is right, and how that was seen."""

    right: bool
    how: str


class Example(NamedTuple):
    """A job of the demo; `judge` takes its result."""

    task: str
    params: dict[str, Any]
    judge: Callable[[Any], Verdict]


_LIMIT: Final = 10_000_000
_PRIMES: Final = 664_579  # up to the limit: sequence A006880 of the On-Line Encyclopedia of Integer Sequences
_SAMPLES: Final = 20_000_000
_WIDTH, _HEIGHT = 720, 480
_STANDARD_ERRORS: Final = 5.0  # chance alone goes beyond them once in 1.7 million times
_ACCURACY: Final = 0.9
_FOREIGN: Final = {"site-packages", "dist-packages", "__pycache__"}  # in its folder, but not the library's


def _primes(result: Any) -> Verdict:
    return Verdict(
        result["count"] == _PRIMES,
        f"{result['count']:,} primes up to {_LIMIT:,}; the OEIS (A006880) has {_PRIMES:,}",
    )


def _pi(result: Any) -> Verdict:
    share = math.pi / 4
    standard_error = 4 * math.sqrt(share * (1 - share) / _SAMPLES)
    off = abs(result["estimate"] - math.pi) / standard_error
    how = f"{result['estimate']:.6f} is {off:.1f} standard errors from {math.pi:.6f}"
    return Verdict(off <= _STANDARD_ERRORS, how)


def _mandelbrot(result: Any) -> Verdict:
    picture = base64.b64decode(result["png"], validate=True)
    signature, size = picture[:8], struct.unpack(">II", picture[16:24])
    right = signature == b"\x89PNG\r\n\x1a\n" and size == (_WIDTH, _HEIGHT)
    return Verdict(right, f"a PNG of {size[0]} by {size[1]} pixels, {len(picture):,} bytes")


def _word_count(result: Any) -> Verdict:
    counts = _count_words(Path(os.__file__).parent)
    told = {one["word"]: one["count"] for one in result["top"]}
    right = result["words"] == counts.total() and told == {word: counts[word.encode()] for word in told}
    how = f"{result['words']:,} words, the first of them {next(iter(told), None)}; counted here: {counts.total():,}"
    return Verdict(right and bool(told), how)


def _count_words(library: Path) -> Counter[bytes]:
    """Count the runs of letters in the standard library, in another way than the task does."""
    others = bytes(byte for byte in range(256) if not bytes([byte]).isalpha())
    blanks = bytes.maketrans(others, b" " * len(others))
    counts: Counter[bytes] = Counter()
    for path in library.rglob("*.py"):
        if _FOREIGN.isdisjoint(path.relative_to(library).parts):
            counts.update(path.read_bytes().translate(blanks).lower().split())
    return counts


def _train_digits(result: Any) -> Verdict:
    right = _ACCURACY < result["accuracy"] <= 1
    return Verdict(right, f"reads {result['accuracy']:.1%} of {result['tested_on']} digits that it never saw")


def examples() -> list[Example]:
    """Return what this installation can run."""
    found = [
        Example("examples.word_count", {}, _word_count),
        Example("examples.primes", {"n": _LIMIT, "segment": 100_000}, _primes),
        Example("examples.mandelbrot", {"width": _WIDTH, "height": _HEIGHT}, _mandelbrot),
        Example("examples.pi", {"samples": _SAMPLES, "batch": 200_000}, _pi),
    ]
    if can_train():
        found.append(Example("examples.train_digits", {"epochs": 30, "hidden": 64}, _train_digits))
    return found


def can_train() -> bool:
    """Return whether scikit-learn, an optional extra, is installed."""
    return importlib.util.find_spec("sklearn") is not None
