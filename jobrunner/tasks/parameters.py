"""From a function's signature to JSON Schema, and from JSON to its arguments."""

import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from jobrunner.errors import TaskDefinitionError

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFUSED: Final = {
    inspect.Parameter.VAR_POSITIONAL: "*{}: JSON parameters have names; list each one",
    inspect.Parameter.VAR_KEYWORD: "**{}: list each parameter, or take one dict",
    inspect.Parameter.POSITIONAL_ONLY: "{} is positional only: JSON parameters have names",
}


class Parameters:
    """What a function takes.

    Attributes:
        schema: JSON Schema 2020-12 of the object that holds the arguments.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        signature = inspect.signature(function)
        hints = _hints(function)
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for name, parameter in signature.parameters.items():
            if parameter.kind in _REFUSED:
                raise TaskDefinitionError(f"{function.__qualname__}: {_REFUSED[parameter.kind].format(name)}")
            hint = hints.get(name, Any)
            if parameter.default is inspect.Parameter.empty:
                fields.append((name, hint))
            else:  # left out when not given, so that Python's own default applies
                fields.append((name, hint | msgspec.UnsetType, msgspec.UNSET))
        self._struct = msgspec.defstruct("parameters", fields, kw_only=True, forbid_unknown_fields=True)
        try:
            self.schema = _schema(self._struct, signature)
        except TypeError as error:
            raise TaskDefinitionError(
                f"{function.__qualname__}: a parameter has a type that JSON cannot carry: {error}"
            ) from None

    def arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments that `given` means: dataclasses, enums and datetimes made of JSON.

        Raises:
            msgspec.ValidationError: `given` does not fit the schema.
        """
        try:
            values = msgspec.convert(given, self._struct, dec_hook=_decode)
        except msgspec.ValidationError:
            # JSON Schema takes 3.0 for an integer, msgspec does not.
            values = msgspec.convert(_integral(given), self._struct, dec_hook=_decode)
        found = ((name, getattr(values, name)) for name in self._struct.__struct_fields__)
        return {name: value for name, value in found if value is not msgspec.UNSET}


def _integral(value: Any) -> Any:
    """Return `value` with each whole float made an int, which also passes for a float."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _integral(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_integral(item) for item in value]
    return value


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise TaskDefinitionError(f"{function.__qualname__}: a type hint cannot be read: {error}") from None
    return {name: _with_zones(hint) for name, hint in hints.items()}


def _with_zones(hint: Any) -> Any:
    """Return `hint` with each datetime made an aware one: a naive one means another moment elsewhere."""
    if hint is datetime:
        return Annotated[datetime, msgspec.Meta(tz=True)]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return functools.reduce(operator.or_, map(_with_zones, arguments))
    if origin in (list, set, frozenset, tuple, dict):
        return origin[tuple(map(_with_zones, arguments))]
    return hint


def _schema(struct: type[msgspec.Struct], signature: inspect.Signature) -> dict[str, Any]:
    schema = msgspec.json.schema(struct, schema_hook=_schema_of)
    definitions = schema["$defs"]
    whole = definitions.pop("parameters")
    del whole["title"]
    for name, parameter in signature.parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            # msgspec's own type for "left out" must not show, and a default that is no JSON cannot.
            with_default = _builtin(parameter.default)
            if with_default is not msgspec.UNSET:
                whole["properties"][name]["default"] = with_default
    return {"$schema": _DIALECT, **whole} | ({"$defs": definitions} if definitions else {})


def _builtin(default: Any) -> Any:
    try:
        return msgspec.to_builtins(default, enc_hook=_encode)
    except (TypeError, ValueError, OverflowError):
        return msgspec.UNSET


def _schema_of(kind: type) -> dict[str, Any]:
    if issubclass(kind, Path):
        return {"type": "string", "format": "path"}
    raise TypeError(f"{kind.__module__}.{kind.__qualname__}")


def _decode(kind: type, value: Any) -> Any:
    if issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    raise TypeError(f"expected a path as a text, got {type(value).__name__}")


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(type(value))
