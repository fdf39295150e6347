"""What begins anew in a forked process: no thread comes along, and so nobody who would let go of a lock."""

import os
import weakref
from collections.abc import Callable
from typing import Any, Final, TypeVar

_those: Final[weakref.WeakKeyDictionary[Any, Callable[[Any], None]]] = weakref.WeakKeyDictionary()

T = TypeVar("T")


def begin_in_each(owner: T, begin: Callable[[T], None]) -> None:
    """Call `begin` with `owner` now, and in every process that is forked as long as somebody has it."""
    begin(owner)
    _those[owner] = begin


def _begin_all() -> None:
    for owner, begin in list(_those.items()):
        begin(owner)


os.register_at_fork(after_in_child=_begin_all)
