"""The demo's verdicts: a right result is right, and a result that is a little wrong is wrong."""

import base64
import math
from typing import Any

import pytest

from jobrunner.cli.verdicts import Example, examples
from jobrunner.examples.mandelbrot import mandelbrot
from jobrunner.examples.word_count import word_count

BY_NAME = {one.task: one for one in examples()}


def _example(name: str) -> Example:
    if name not in BY_NAME:
        pytest.skip("scikit-learn is not installed")
    return BY_NAME[name]


def _returned(generator: Any) -> Any:
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value


def test_the_number_of_primes_must_be_exact() -> None:
    judge = _example("examples.primes").judge
    assert judge({"count": 664_579}).right
    assert not judge({"count": 664_580}).right


def test_pi_must_be_within_five_standard_errors() -> None:
    example = _example("examples.pi")
    share = math.pi / 4
    standard_error = 4 * math.sqrt(share * (1 - share) / example.params["samples"])
    assert example.judge({"estimate": math.pi - 4.9 * standard_error}).right
    assert not example.judge({"estimate": math.pi - 5.1 * standard_error}).right
    assert not example.judge({"estimate": math.pi + 5.1 * standard_error}).right


def test_the_picture_must_be_a_png_of_the_size_that_was_asked_for() -> None:
    example = _example("examples.mandelbrot")
    result = _returned(mandelbrot(**example.params | {"iterations": 1}))
    assert example.judge(result).right
    picture = base64.b64decode(result["png"])
    assert not example.judge({"png": base64.b64encode(b"x" + picture)}).right
    assert not example.judge(_returned(mandelbrot(width=2, height=2, iterations=1))).right


def test_every_word_must_be_counted_right() -> None:
    example = _example("examples.word_count")
    result = _returned(word_count(**example.params))
    assert example.judge(result).right
    assert not example.judge(result | {"words": result["words"] + 1}).right
    assert not example.judge(result | {"top": []}).right
    first, *others = result["top"]
    assert not example.judge(result | {"top": [first | {"count": first["count"] - 1}, *others]}).right


def test_nine_digits_in_ten_must_be_read() -> None:
    judge = _example("examples.train_digits").judge
    assert judge({"accuracy": 0.94, "tested_on": 450}).right
    assert not judge({"accuracy": 0.9, "tested_on": 450}).right
