"""Waiting for a condition, never for time."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(condition: Callable[[], T], seconds: float = 10.0) -> T:
    """Return the first truthy value of `condition`; fail after `seconds`.

    It is asked every 10 ms, and then more seldom, for whoever asks takes time from those who are waited for.
    """
    pause = threading.Event()
    begun = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - begun
        if waited > seconds:
            raise AssertionError(f"not within {seconds:g} s: {condition}")
        pause.wait(min(max(0.01, waited / 10), 0.1))
