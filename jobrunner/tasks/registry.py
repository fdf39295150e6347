"""The decorator that makes a function a task, and the tasks of this process by name."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar, overload

from jobrunner import sizes
from jobrunner.errors import DuplicateTaskError, TaskDefinitionError
from jobrunner.tasks.parameters import Parameters

Function = TypeVar("Function", bound=Callable[..., Any])


class Options(TypedDict):
    """What a task asks for each of its jobs, unless the submission says otherwise."""

    timeout: float | None  #: seconds
    retries: int
    crash_retries: int
    memory_limit: int | None  #: bytes
    queue: str
    priority: int


@dataclass(frozen=True)
class Task:
    """A function under a name."""

    name: str
    function: Callable[..., Any]
    options: Options
    parameters: Parameters = field(repr=False)

    @property
    def doc(self) -> str:
        """The function's docstring, or an empty text."""
        return inspect.getdoc(self.function) or ""

    @property
    def place(self) -> str:
        """Where the function is written, as `file:line`."""
        code = inspect.unwrap(self.function).__code__
        return f"{code.co_filename}:{code.co_firstlineno}"


REGISTRY: dict[str, Task] = {}


@overload
def task(function: Function, /) -> Function: ...
@overload
def task(
    *,
    name: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    crash_retries: int = 2,
    memory_limit: int | str | None = None,
    queue: str = "default",
    priority: int = 0,
) -> Callable[[Function], Function]: ...
def task(function: Any = None, /, **options: Any) -> Any:
    """Register a function as a task and return it unchanged.

    Args:
        function: a plain or a generator function whose parameters JSON can carry.
        options: `name` (default `module.function`); `timeout` in seconds; `retries` after an exception or
            a timeout; `crash_retries` after a crash of its process; `memory_limit` in bytes or as `"2G"`;
            `queue`; `priority` (higher first).  A submission may override all but the name.

    Raises:
        TaskDefinitionError: the function or an option cannot be used; the message says why.
        DuplicateTaskError: another function has this name.
    """
    if function is None:
        return lambda decorated: _register(decorated, **options)
    return _register(function, **options)


def of(function: Any) -> Task | None:
    """Return the task that was made of this function; None if none was."""
    return next((made for made in REGISTRY.values() if made.function is function), None)


def _register(function: Any, *, name: str | None = None, **options: Any) -> Any:
    if not inspect.isfunction(function):
        raise TaskDefinitionError(f"@task takes a function, not {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TaskDefinitionError(f"{function.__qualname__}: a task cannot be async; call asyncio.run inside")
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= 200):
        raise TaskDefinitionError(
            f"{function.__qualname__}: name must be a text of 1 to 200 characters, not {name!r}"
        )
    made = Task(
        name=name or f"{function.__module__}.{function.__qualname__}",
        function=function,
        options=_checked(function.__qualname__, options),
        parameters=Parameters(function),
    )
    registered = REGISTRY.get(made.name)
    if registered is not None and registered.place != made.place:  # the same place: its module was reloaded
        raise DuplicateTaskError(made.name, registered.place, made.place)
    REGISTRY[made.name] = made
    return function


def _checked(where: str, given: dict[str, Any]) -> Options:
    options = Options(
        timeout=None, retries=0, crash_retries=2, memory_limit=None, queue="default", priority=0
    )
    unknown = given.keys() - options.keys()
    if unknown:
        raise TaskDefinitionError(
            f"{where}: no option {', '.join(sorted(unknown))}; there are {', '.join(options)}"
        )
    options.update(given)  # type: ignore[typeddict-item]  # checked below, value by value
    if options["memory_limit"] is not None:
        try:
            options["memory_limit"] = sizes.in_bytes(options["memory_limit"])
        except ValueError:
            raise TaskDefinitionError(f"{where}: memory_limit must be bytes or a size such as '2G'") from None
    for option, allowed in _ALLOWED.items():
        value = options[option]  # type: ignore[literal-required]
        if isinstance(value, bool) or not allowed[0](value):
            raise TaskDefinitionError(f"{where}: {option} must be {allowed[1]}, not {value!r}")
    return options


_MOST_RETRIES = 1_000_000
_LONGEST_SECONDS = 10 * 366 * 86_400  # ten years

_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "timeout": (
        lambda v: v is None or (isinstance(v, int | float) and 0 < v <= _LONGEST_SECONDS),
        "seconds above 0, up to ten years, or None",
    ),
    "retries": (
        lambda v: isinstance(v, int) and 0 <= v <= _MOST_RETRIES,
        "a whole number from 0 to a million",
    ),
    "crash_retries": (
        lambda v: isinstance(v, int) and 0 <= v <= _MOST_RETRIES,
        "a whole number from 0 to a million",
    ),
    "memory_limit": (lambda v: v is None or 1 << 20 <= v <= 1 << 60, "at least 1M, or None"),
    "queue": (lambda v: isinstance(v, str) and 0 < len(v) <= 100, "a text of 1 to 100 characters"),
    "priority": (
        lambda v: isinstance(v, int) and abs(v) <= 1_000_000,
        "a whole number within a million of 0",
    ),
}
