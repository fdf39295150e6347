"""The calls of one `map` as items of map jobs, a window at a time: there may be no end of them."""

import itertools
import json
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from jobrunner.errors import UnserializableError
from jobrunner.executor.calls import Callee
from jobrunner.tasks.encoding import to_json

BATCH_BYTES: Final = 4 << 20  #: of items, after which a request has enough; a server takes 16 MiB by default


class Windows:
    """What the iterables of one `map` hold and was not taken yet.

    A range is told by its ends, and what `itertools.repeat` repeats for ever is told once.

    Attributes:
        params: common to all calls.
    """

    def __init__(self, callee: Callee, iterables: Sequence[Iterable[Any]]) -> None:
        """Take nothing yet.

        Raises:
            TypeError: so many arguments do not fit the signature, or one has no form in JSON.
        """
        self._callee = callee
        fixed = [_is_endless_repeat(one) for one in iterables]
        if all(fixed):  # of nothing else that would end them, or that could be told apart
            fixed = [False] * len(iterables)
        varying = [one for one, is_fixed in zip(iterables, fixed, strict=True) if not is_fixed]
        marks = [object() for _ in varying]
        given = iter(marks)
        args = [
            next(iter(one)) if is_fixed else next(given)
            for one, is_fixed in zip(iterables, fixed, strict=True)
        ]
        bound = dict(callee.bind(tuple(args), {})) if iterables else {}
        names = {id(value): name for name, value in bound.items()}
        self._names = [names[id(mark)] for mark in marks]
        told = {name: value for name, value in bound.items() if name not in self._names}
        self.params: dict[str, Any] = json.loads(self._as_json(told))
        is_range = len(varying) == 1 and isinstance(varying[0], range)
        self._rest: range | Iterator[tuple[Any, ...]] = (
            varying[0] if is_range else zip(*varying, strict=False)  # type: ignore[assignment]
        )

    def take(self, most: int) -> Sequence[Any]:
        """Return the items of the next request, at most so many; none if there are no more.

        Raises:
            TypeError: an argument has no form in JSON.
        """
        if isinstance(self._rest, range):
            items, self._rest = self._rest[:most], self._rest[most:]
            return items
        texts: list[str] = []
        size = 0
        while len(texts) < most and size < BATCH_BYTES and (call := next(self._rest, None)) is not None:
            one = call[0] if len(call) == 1 else dict(zip(self._names, call, strict=True))
            texts.append(self._as_json(one))
            size += len(texts[-1])
        found: list[Any] = json.loads(f"[{','.join(texts)}]")
        return found

    def asked(self, items: Sequence[Any]) -> Any:
        """Return the `map` of a submission of these items."""
        return {self._names[0]: items} if len(self._names) == 1 else items

    def _as_json(self, value: Any) -> str:
        try:
            return to_json(value, f"the arguments of {self._callee.task}")
        except UnserializableError as error:
            raise TypeError(str(error)) from None


def _is_endless_repeat(iterable: Iterable[Any]) -> bool:
    return isinstance(iterable, itertools.repeat) and operator.length_hint(iterable, -1) < 0
