"""From a function's signature to JSON Schema, and from JSON to its arguments."""

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
        names: of the parameters, in order.
        positional: of those that may be given without their names.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        signature = inspect.signature(function)
        hints = _hints(function)
        fields: list[tuple[str, Any, Any]] = []
        for name, parameter in signature.parameters.items():
            if parameter.kind in _REFUSED:
                raise TaskDefinitionError(f"{function.__qualname__}: {_REFUSED[parameter.kind].format(name)}")
            # One with a default is left out when not given, so that Python's own default applies.
            required = parameter.default is inspect.Parameter.empty
            fields.append((name, hints.get(name, Any), msgspec.NODEFAULT if required else msgspec.UNSET))
        self._streams = {name for name, hint, _ in fields if typing.get_origin(hint) is Iterator}
        try:
            fields = [(name, _at_the_door(hint), default) for name, hint, default in fields]
            self._fields = fields
            self._hints = {name: hint for name, hint, _ in fields}
            self.names = list(self._hints)
            by_name = inspect.Parameter.KEYWORD_ONLY
            self.positional = [name for name in self.names if signature.parameters[name].kind != by_name]
            self._struct = msgspec.defstruct("parameters", fields, kw_only=True, forbid_unknown_fields=True)
            self.schema = _schema(self._struct, signature)
        except (TypeError, NameError, AttributeError, SyntaxError) as error:
            raise TaskDefinitionError(
                f"{function.__qualname__}: a parameter has a type that JSON cannot carry: {error}"
            ) from None

    def column(self, name: str, values: Sequence[Any]) -> list[Any] | None:
        """Return many values of one parameter, each as `arguments` would; None if one of them does not fit."""
        hint = self._hints.get(name)
        if hint is int and isinstance(values, range):
            return list(values)
        try:
            return None if hint is None else msgspec.convert(list(values), list[hint], dec_hook=_decode)  # type: ignore[valid-type]
        except Exception:  # noqa: BLE001 - user code: a __post_init__ may raise anything; then each has its own look
            return None

    def arguments_beside(self, first: Any, given: dict[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments where the first parameter is `first`, as it is; raises what `arguments` does."""
        name = self.names[0]
        others = [field for field in self._fields if field[0] != name]
        struct = msgspec.defstruct("parameters", others, kw_only=True, forbid_unknown_fields=True)
        return {name: first, **_arguments(struct, given)}

    def arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments that `given` means: dataclasses, enums and datetimes made of JSON.

        Raises:
            msgspec.ValidationError: `given` does not fit the schema.
        """
        arguments = _arguments(self._struct, given)
        for name in self._streams & arguments.keys():
            arguments[name] = iter(arguments[name])
        return arguments


def _arguments(struct: type[msgspec.Struct], given: dict[str, Any]) -> dict[str, Any]:
    try:
        values = msgspec.convert(given, struct, dec_hook=_decode)
    except msgspec.ValidationError:
        # JSON Schema takes 3.0 for an integer, msgspec does not.
        values = msgspec.convert(_integral(given), struct, dec_hook=_decode)
    found = ((name, getattr(values, name)) for name in struct.__struct_fields__)
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
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError) as error:
        raise TaskDefinitionError(f"{function.__qualname__}: a type hint cannot be read: {error}") from None


def _at_the_door(hint: Any, inside: frozenset[type] = frozenset()) -> Any:
    """Return `hint` with each datetime made an aware one: a naive one means another moment elsewhere.

    Args:
        hint: of a parameter, or of a part of it.
        inside: the dataclasses and their like that it is a part of.

    Raises:
        TypeError: a dataclass, which is not ours to change, has a naive datetime; or a dict has other keys than texts.
    """
    if hint is datetime:
        return Annotated[datetime, msgspec.Meta(tz=True)]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Iterable, Iterator):  # what a reduce task gets; in JSON that is a list
        origin = list
    if isinstance(origin, type) and issubclass(origin, Mapping) and arguments[0] not in (str, Any):
        raise TypeError(f"{hint}: the key of a JSON object is a text, so say dict[str, ...]")
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(_at_the_door(one, inside) for one in arguments)]  # noqa: UP007 - made at run time
    if origin is Annotated:
        zones = [one.tz for one in arguments[1:] if getattr(one, "tz", None) is not None]
        if False in zones:
            raise TypeError(f"{hint}: a datetime without a zone means another moment elsewhere")
        if zones:
            return hint
        return Annotated[(_at_the_door(arguments[0], inside), *arguments[1:])]
    if isinstance(origin, type) and arguments and origin is not type:
        return types.GenericAlias(origin, tuple(_at_the_door(one, inside) for one in arguments))
    if isinstance(hint, type) and _has_fields(hint) and hint not in inside:
        _check_fields(hint, inside | {hint})
    return hint


def _check_fields(kind: type, inside: frozenset[type]) -> None:
    for name, part in typing.get_type_hints(kind, include_extras=True).items():
        _at_the_door(part, inside)
        if _may_be_naive(part):
            raise TypeError(
                f"{kind.__qualname__}.{name}: a datetime without a zone means another moment elsewhere, so say "
                "Annotated[datetime, msgspec.Meta(tz=True)]"
            )


def _may_be_naive(hint: Any) -> bool:
    """Whether `hint` lets a datetime without a zone through; what classes inside it do is their own matter."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated and any(getattr(one, "tz", None) for one in arguments[1:]):
        return False
    return hint is datetime or any(map(_may_be_naive, arguments))


def _has_fields(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or typing.is_typeddict(kind) or hasattr(kind, "_fields")


def _schema(struct: type[msgspec.Struct], signature: inspect.Signature) -> dict[str, Any]:
    schema = msgspec.json.schema(struct, schema_hook=_schema_of)
    definitions = schema["$defs"]
    whole = definitions.pop(schema["$ref"].rpartition("/")[2])
    del whole["title"]
    for definition in definitions.values():
        if (
            "properties" in definition
        ):  # a dataclass: a field that is misspelt must not be left out in silence
            definition["additionalProperties"] = False
    for name, parameter in signature.parameters.items():
        shown = whole["properties"][name]
        shown.pop("default", None)  # msgspec's own, which stands for "left out"
        if parameter.default is not inspect.Parameter.empty:
            default = _builtin(parameter.default)
            if default is not msgspec.UNSET:  # else it is no JSON
                shown["default"] = default
    return {"$schema": _DIALECT, **whole} | ({"$defs": definitions} if definitions else {})


def _builtin(default: Any) -> Any:
    try:
        built = msgspec.to_builtins(default, enc_hook=_encode, str_keys=True)
        json.dumps(built, allow_nan=False)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return msgspec.UNSET
    return built


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
