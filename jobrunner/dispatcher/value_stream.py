"""The values of a map job's items, as its reduce task gets them: see `reducing` for the other end."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any


class ValueStream:
    """Lines of values, read when they are wanted."""

    def __init__(self, read: Callable[[], Sequence[bytes]]) -> None:
        """Read nothing yet; `read` waits for some lines."""
        self._read = read
        self._is_over = False

    def __iter__(self) -> Iterator[Any]:
        while not self._is_over:
            for values in self._lists():
                yield from values

    def _lists(self) -> list[list[Any]]:
        lists = [json.loads(line) for line in self._read()]
        self._is_over = bool(lists) and lists[-1] is None
        return lists[:-1] if self._is_over else lists

    def drain(self) -> None:
        """Read what the task did not want, which would be taken for tickets."""
        while not self._is_over:
            self._lists()
