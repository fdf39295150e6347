"""The tasks that dispatchers have published, as the door knows them: their schema and their options."""

import contextlib
import functools
import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind

from jobrunner.api.pointers import MAX_ERRORS, Flaw, Path
from jobrunner.errors import TaskNotFoundError
from jobrunner.store import catalogue
from jobrunner.store.quick import Source


@dataclass(frozen=True)
class Published:
    """A task that can be submitted.

    Attributes:
        options: what holds for its jobs unless the submission says otherwise; see `registry.Options`.
    """

    options: Mapping[str, Any]
    validator: Draft202012Validator

    def flaws(self, params: Any) -> list[Flaw]:
        """Return what is wrong with `params`; each path starts at the parameters."""
        if self.validator.is_valid(params):
            return []
        # The validator finds every error before it tells the first: for half a million that takes it 20 seconds,
        # in which this process answers nobody.
        few = _cut(params, iter(range(_VALUES)))
        found = (flaw for error in self.validator.iter_errors(few) for flaw in _explained(error))
        beyond = Flaw((), f"has something wrong in it, beyond its first {_VALUES} values")
        return list(itertools.islice(found, MAX_ERRORS)) or [beyond]


@dataclass(frozen=True)
class Shelf:
    """The tasks that one request asks for; if one of them is not there, the names of all that are."""

    tasks: Mapping[str, Published]
    names: list[str]


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
    validator = Draft202012Validator(told["params"], validate_formats=True, mask=_MASK, offline=True)
    return Published(told["options"], validator)


def _cut(value: Any, room: Iterator[int]) -> Any:
    """Return `value` without what comes after as many values as there is room for."""
    if isinstance(value, list):
        return [_cut(inside, room) for inside, _ in zip(value, room, strict=False)]
    if isinstance(value, dict) and (taken := len(list(itertools.islice(room, len(value))))):
        # All of them or some more than there is room for: else what is required would be missing.
        members = itertools.islice(value.items(), max(taken, _MEMBERS))
        return {name: _cut(inside, room) for name, inside in members}
    return {} if isinstance(value, dict) else value


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
