"""The items of a map job: how many there are, and the parameters of each.

`map` is a list of parameter objects; or it says which values some parameters run through: a list of them, or
`{"range": [start, stop]}`, `{"range": [start, stop, step]}` as in Python.  Several make a product, whose last one
runs fastest.  Items are numbered from 0.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import msgspec


class Axis(NamedTuple):
    """Values that items run through.

    Attributes:
        name: of the parameter; None: each value is an object of parameters.
        values: in order.
    """

    name: str | None
    values: Sequence[Any]


class Items:
    """The product of some axes; values are whatever they were made of."""

    def __init__(self, axes: Sequence[Axis]) -> None:
        self.axes = axes
        sizes = [len(axis.values) for axis in axes]
        self._strides = [math.prod(sizes[place + 1 :]) for place in range(len(sizes))]
        self._count = math.prod(sizes)

    @classmethod
    def of(cls, spec: list[Any] | Mapping[str, Any]) -> Self:
        """Return the items of a `map` that is known to be well formed."""
        if isinstance(spec, list):
            return cls([Axis(None, spec)])
        return cls([Axis(name, _values(given)) for name, given in spec.items()])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the items of a `map` in JSON; what is in its lists stays JSON, which takes the least memory."""
        spec = _SPEC.decode(text)
        if isinstance(spec, list):
            return cls([Axis(None, spec)])
        return cls([Axis(name, _values(_VALUES.decode(given))) for name, given in spec.items()])

    def __len__(self) -> int:
        return self._count

    def params(self, index: int) -> dict[str, Any]:
        """Return the parameters of one item, of items that were parsed: beside those that all have in common."""
        found: dict[str, Any] = {}
        for axis, stride in zip(self.axes, self._strides, strict=True):
            value = axis.values[index // stride % len(axis.values)]
            value = msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
            found |= value if axis.name is None else {axis.name: value}
        return found

    def cut(self, first: int, count: int) -> str:
        """Return some items, of items that were parsed, as the JSON of a `Cut`: no more values than they need."""
        axes = []
        for axis, stride in zip(self.axes, self._strides, strict=True):
            size = len(axis.values)
            start = first // stride % size
            most = min(size, (first + count - 1) // stride - first // stride + 1)
            axes.append(_CutAxis(axis.name, size, stride, start, _window(axis.values, start, most)))
        return msgspec.json.encode((first, count, axes)).decode()


class _CutAxis(NamedTuple):
    name: str | None
    size: int
    stride: int
    start: int
    values: Any


class Cut:
    """Some items that follow each other, as a job process gets them."""

    def __init__(self, told: Sequence[Any]) -> None:
        self.first, self.count, axes = told
        self._axes = [_CutAxis(*axis) for axis in axes]

    def columns(self) -> Iterator[tuple[str | None, Sequence[Any], Sequence[int] | None]]:
        """Yield, for each axis, its name, the values that these items need, and the place of each item's among them.

        The places are None where each item has a value of its own, in order.
        """
        upto = self.first + self.count
        for name, size, stride, start, told in self._axes:
            values = _values(told)
            if stride == 1 and len(values) == self.count:
                yield name, values, None
            else:
                yield name, values, [(at // stride - start) % size for at in range(self.first, upto)]


def _window(values: Sequence[Any], start: int, most: int) -> Any:
    """Return `most` values from the place `start` on, and on from the first after the last, as they are told."""
    if not isinstance(values, range):
        return [*values[start : start + most], *values[: max(0, start + most - len(values))]]
    if start + most <= len(values):
        values = values[start : start + most]
        return {"range": [values.start, values.stop, values.step]}
    return [*values[start:], *values[: start + most - len(values)]]


def _values(told: Any) -> Sequence[Any]:
    if isinstance(told, Mapping):
        bounds: list[int] = told["range"]
        return range(*bounds)
    values: list[Any] = told
    return values


_SPEC: msgspec.json.Decoder[list[msgspec.Raw] | dict[str, msgspec.Raw]] = msgspec.json.Decoder(
    list[msgspec.Raw] | dict[str, msgspec.Raw]
)
_VALUES: msgspec.json.Decoder[list[msgspec.Raw] | dict[str, list[int]]] = msgspec.json.Decoder(
    list[msgspec.Raw] | dict[str, list[int]]
)
