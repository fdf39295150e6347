"""The tasks that dispatchers have published, as the door knows them: their schema and their options."""

import contextlib
import functools
import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind

from jobrunner.api.pointers import MAX_ERRORS, Flaw, Path
from jobrunner.errors import TaskNotFoundError, UnknownTaskError
from jobrunner.store import catalogue
from jobrunner.store.quick import Source


@dataclass(frozen=True)
class Published:
    """A task that can be submitted.

    Attributes:
        options: what holds for its jobs unless the submission says otherwise; see `registry.Options`.
        schema: of its parameters, which `properties` names in their order.
    """

    options: Mapping[str, Any]
    schema: Mapping[str, Any]
    validator: Draft202012Validator

    def flaws(self, params: Any) -> list[Flaw]:
        """Return what is wrong with `params`; each path starts at the parameters."""
        return _flaws(self.validator, params)

    @property
    def parameters(self) -> list[str]:
        """The names of its parameters, in their order."""
        return list(self.schema["properties"])

    def leaving_out(self, names: Collection[str]) -> Mapping[str, Any]:
        """Return the schema of its parameters where these come from elsewhere, and so need not be there."""
        return {**self.schema, "required": [name for name in self.schema["required"] if name not in names]}

    def of_parameter(self, name: str) -> Mapping[str, Any]:
        """Return the schema of one parameter."""
        found: Mapping[str, Any] = self.schema["properties"][name]
        return {**found, "$defs": self.schema.get("$defs", {})}


def flaws_of_each(schema: Mapping[str, Any], values: Sequence[Any]) -> Iterator[Flaw]:
    """Yield what is wrong with any of many values; each path starts with the value's place among them."""
    inside = {name: one for name, one in schema.items() if name not in ("$schema", "$defs")}
    whole = _validator({"type": "array", "items": inside, "$defs": schema.get("$defs", {})})
    each = None
    for start in range(0, len(values), _SLICE):
        some = values[start : start + _SLICE]
        if whole.is_valid(some):
            continue
        each = each or _validator(schema)
        for place, value in enumerate(some, start):
            yield from (Flaw((place, *path), detail) for path, detail in _flaws(each, value))


def flaws_of(schema: Mapping[str, Any], value: Any) -> list[Flaw]:
    """Return what is wrong with a value; each path starts at the value."""
    return _flaws(_validator(schema), value)


def _flaws(validator: Draft202012Validator, value: Any) -> list[Flaw]:
    if validator.is_valid(value):
        return []
    # The validator finds every error before it tells the first: for half a million that takes it 20 seconds,
    # in which this process answers nobody.
    few = _cut(value, iter(range(_VALUES)))
    found = (flaw for error in validator.iter_errors(few) for flaw in _explained(error))
    beyond = Flaw((), f"has something wrong in it, beyond its first {_VALUES} values")
    return list(itertools.islice(found, MAX_ERRORS)) or [beyond]


def _validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(dict(schema), validate_formats=True, mask=_MASK, offline=True)


@dataclass(frozen=True)
class Shelf:
    """The tasks that one request asks for; if one of them is not there, the names of all that are."""

    tasks: Mapping[str, Published]
    names: list[str]

    def unknown(self, name: Any) -> UnknownTaskError:
        """Return what to say of a task that is not there."""
        return UnknownTaskError("#/task", name, self.names)


def find(source: Source, wanted: Collection[str]) -> Shelf:
    """Return those of the `wanted` tasks that are published."""
    there = {}
    for name in wanted:
        with contextlib.suppress(TaskNotFoundError):
            there[name] = _read(catalogue.description(source, name))
    return Shelf(there, list(there) if there.keys() == wanted != set() else catalogue.names(source))


@functools.lru_cache(maxsize=1024)
def _read(description: str) -> Published:
    told = json.loads(description)
    return Published(told["options"], told["params"], _validator(told["params"]))


def _cut(value: Any, room: Iterator[int]) -> Any:
    """Return `value` without what comes after as many values as there is room for."""
    if isinstance(value, list):
        return [_cut(inside, room) for inside, _ in zip(value, room, strict=False)]
    if isinstance(value, dict) and (taken := len(list(itertools.islice(room, len(value))))):
        # All of them or some more than there is room for: else what is required would be missing.
        members = itertools.islice(value.items(), max(taken, _MEMBERS))
        return {name: _cut(inside, room) for name, inside in members}
    return {} if isinstance(value, dict) else value


_SLICE: Final = 1_000  # values that are checked at once, while this process answers nobody else
_VALUES: Final = 20_000  # among which flaws are looked for
_MEMBERS: Final = 1_000
_MASK: Final = "it"  # stands for the value, which may be a megabyte, in the validator's sentences


def _explained(error: ValidationError) -> Iterator[Flaw]:
    path: Path = tuple(error.instance_path)
    match error.kind:
        case ValidationErrorKind.Required(property=name):
            yield Flaw((*path, name), "is required")
        case ValidationErrorKind.AdditionalProperties(unexpected=names):
            yield from (Flaw((*path, name), "is not a parameter") for name in names)
        case ValidationErrorKind.Type(types=types):
            yield Flaw(path, f"must be of type {' or '.join(types)}")
        case (
            ValidationErrorKind.AnyOf(context=branches) | ValidationErrorKind.OneOfNotValid(context=branches)
        ):
            yield from _explained_choice(path, branches)
        case _:
            yield Flaw(path, error.message.removeprefix(f"{_MASK} ")[:300])


def _explained_choice(path: Path, branches: list[list[ValidationError]]) -> Iterator[Flaw]:
    """Explain by the one branch that is of the value's type, else by the types of all."""
    types: list[str] = []
    near = []
    for branch in branches:
        match branch:
            case [ValidationError(kind=ValidationErrorKind.Type(types=wanted)) as error] if (
                tuple(error.instance_path) == path
            ):
                types += wanted
            case _:
                near.append(branch)
    if len(near) == 1:
        for error in near[0]:
            yield from _explained(error)
    elif near:
        yield Flaw(path, "fits none of the forms that it may have")
    else:
        yield Flaw(path, f"must be of type {' or '.join(types)}")
