"""From a call of a function to the task and the parameters that it stands for."""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from jobrunner.client import Client
from jobrunner.errors import UnserializableError
from jobrunner.tasks import registry
from jobrunner.tasks.encoding import to_json

REMEDY: Final = (
    "decorate it with @task in a module that the dispatcher serves (--tasks MODULE), "
    "or give the name of a task"
)


class Callables:
    """The tasks that calls were made of so far, each looked up once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._orders: dict[str, list[str]] = {}

    def task(self, fn: Any) -> "Callee":
        """Return the task that `fn` is: a decorated function, a partial of one, or a name.

        Raises:
            TypeError: it is something else; the message says what to do.
        """
        if isinstance(fn, str):
            return Callee(fn, lambda args, kwargs: self._by_order(fn, args, kwargs))
        if isinstance(fn, functools.partial):
            inner = self.task(fn.func)
            return Callee(
                inner.task, lambda args, kwargs: inner.bind((*fn.args, *args), {**fn.keywords, **kwargs})
            )
        name = _name(fn)
        if name is None:
            raise TypeError(f"{_shown(fn)} is no task: {REMEDY}")
        signature = inspect.signature(fn)
        return Callee(name, lambda args, kwargs: signature.bind(*args, **kwargs).arguments)

    def _by_order(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
        """Bind positional arguments in the order in which the published schema names the parameters."""
        if not args:
            return kwargs
        if name not in self._orders:
            self._orders[name] = list(self._client.task(name)["params"].get("properties", {}))
        order = self._orders[name]
        if len(args) > len(order):
            raise TypeError(f"{name} takes {len(order)} positional arguments but {len(args)} were given")
        bound = dict(zip(order, args, strict=False))
        for twice in bound.keys() & kwargs.keys():
            raise TypeError(f"{name} got multiple values for argument {twice!r}")
        return {**bound, **kwargs}


class Params(NamedTuple):
    """The parameters of a call, made of JSON, and the bytes that this takes."""

    value: dict[str, Any]
    size: int


class Callee:
    """A task, and how its arguments become parameters."""

    def __init__(
        self, task: str, bind: Callable[[tuple[Any, ...], dict[str, Any]], Mapping[str, Any]]
    ) -> None:
        self.task = task
        self.bind = bind

    def params(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Params:
        """Return the parameters of a call.

        Raises:
            TypeError: the arguments do not fit the signature, or have no form in JSON.
        """
        bound = dict(self.bind(args, kwargs))
        try:
            text = to_json(bound, f"the arguments of {self.task}")
        except UnserializableError as error:
            raise TypeError(str(error)) from None
        return Params(json.loads(text), len(text))


def _name(fn: Any) -> str | None:
    """Return the name under which a dispatcher knows the function; None if it is no task."""
    found = registry.of(fn)
    if found is None:
        return None
    main = "__main__."
    # Of a program that was started by its file, the dispatcher imports the same file as a module.
    return f"{_main_module()}.{found.name.removeprefix(main)}" if found.name.startswith(main) else found.name


def _main_module() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name)
    return Path(getattr(main, "__file__", None) or "__main__").stem


def _shown(fn: Any) -> str:
    name = getattr(fn, "__qualname__", None)
    return f"{getattr(fn, '__module__', None) or 'builtins'}.{name}" if name else repr(fn)[:200]
