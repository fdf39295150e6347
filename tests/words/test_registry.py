import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobrunner import task
from jobrunner.errors import DuplicateTaskError, TaskDefinitionError
from jobrunner.tasks.registry import Task

pytestmark = pytest.mark.usefixtures("registry")

Registry = dict[str, Task]

DEFAULTS = {
    "timeout": None,
    "retries": 0,
    "crash_retries": 2,
    "memory_limit": None,
    "queue": "default",
    "priority": 0,
}


def double(n: int) -> int:
    """Return twice `n`."""
    return 2 * n


def count(n: int) -> Iterator[int]:
    yield from range(n)


def test_a_task_stays_the_plain_function_that_it_was(registry: Registry) -> None:
    decorated = task(double)
    assert decorated is double
    assert decorated(21) == 42
    assert registry[f"{__name__}.double"].function is double


def test_a_generator_function_can_be_a_task(registry: Registry) -> None:
    assert list(task(count)(3)) == [0, 1, 2]
    assert list(registry) == [f"{__name__}.count"]


def test_options_do_not_change_the_function_either() -> None:
    assert task(retries=3)(double) is double


def test_a_task_without_options_has_the_defaults(registry: Registry) -> None:
    task(double)
    (found,) = registry.values()
    assert found.options == DEFAULTS


def test_brackets_without_options_are_the_same(registry: Registry) -> None:
    task()(double)
    (found,) = registry.values()
    assert found.options == DEFAULTS


def test_options_are_kept(registry: Registry) -> None:
    options = {
        "timeout": 2.5,
        "retries": 3,
        "crash_retries": 0,
        "memory_limit": 1 << 30,
        "queue": "slow",
        "priority": -7,
    }
    task(**options)(double)  # type: ignore[call-overload]
    (found,) = registry.values()
    assert found.options == options


def test_a_memory_limit_may_be_a_size_in_words(registry: Registry) -> None:
    task(memory_limit="2G")(double)
    (found,) = registry.values()
    assert found.options["memory_limit"] == 2 << 30


def test_a_task_is_named_after_its_module_and_function(registry: Registry) -> None:
    @task
    def inner() -> None: ...

    here = "test_a_task_is_named_after_its_module_and_function.<locals>.inner"
    assert [(name, found.name) for name, found in registry.items()] == [(f"{__name__}.{here}",) * 2]


def test_a_task_may_have_another_name(registry: Registry) -> None:
    task(name="twice")(double)
    assert registry["twice"].name == "twice"


def test_a_task_has_the_functions_docstring_without_its_indentation(registry: Registry) -> None:
    @task(name="documented")
    def documented() -> None:
        """One line.

        And another.
        """

    task(name="silent")(count)
    assert registry["documented"].doc == "One line.\n\nAnd another."
    assert registry["silent"].doc == ""


def test_a_task_knows_where_it_is_written(registry: Registry) -> None:
    task(name="here")(double)
    assert registry["here"].place == f"{__file__}:{double.__code__.co_firstlineno}"


def wrapping(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def test_a_decorated_function_is_described_by_what_it_wraps(registry: Registry) -> None:
    task(wrapping(double))
    (found,) = registry.values()
    assert found.name == f"{__name__}.double"
    assert found.place == f"{__file__}:{double.__code__.co_firstlineno}"
    assert found.parameters.schema["required"] == ["n"]


# -- two of one name -------------------------------------------------------------------------


def test_two_tasks_of_one_name_are_refused_and_both_places_named(registry: Registry) -> None:
    task(name="same")(double)
    with pytest.raises(DuplicateTaskError, match=r"two tasks are named 'same'") as caught:
        task(name="same")(count)
    for function in (double, count):
        assert f"{__file__}:{function.__code__.co_firstlineno}" in str(caught.value)
    assert registry["same"].function is double


def test_the_same_function_again_is_its_module_reloaded(registry: Registry) -> None:
    task(name="same", priority=1)(double)
    task(name="same", priority=2)(double)
    assert registry["same"].options["priority"] == 2


# -- what cannot be a task -------------------------------------------------------------------


async def coroutine() -> None: ...


async def stream() -> Any:
    yield 1


def takes_any(*values: int) -> None: ...


def takes_named(**values: int) -> None: ...


def takes_first(value: int, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (coroutine, "coroutine: a task cannot be async; call asyncio.run inside"),
        (stream, "stream: a task cannot be async; call asyncio.run inside"),
        (takes_any, r"takes_any: \*values: JSON parameters have names; list each one"),
        (takes_named, r"takes_named: \*\*values: list each parameter, or take one dict"),
        (takes_first, "takes_first: value is positional only: JSON parameters have names"),
        (int, r"@task takes a function, not <class 'int'>"),
        (functools.partial(double, 1), r"@task takes a function, not functools\.partial"),
        (len, r"@task takes a function, not <built-in function len>"),
        ("a name", r"@task takes a function, not 'a name'"),
    ],
)
def test_what_cannot_be_a_task_is_refused_with_the_reason(
    registry: Registry, function: Any, why: str
) -> None:
    with pytest.raises(TaskDefinitionError, match=why):
        task(function)
    assert registry == {}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"timeout": 0}, "double: timeout must be seconds above 0, up to ten years, or None, not 0"),
        ({"timeout": -1.5}, "timeout must be seconds above 0, up to ten years, or None, not -1.5"),
        ({"timeout": "60"}, "timeout must be seconds above 0, up to ten years, or None, not '60'"),
        ({"timeout": True}, "timeout must be seconds above 0, up to ten years, or None, not True"),
        ({"timeout": math.nan}, "timeout must be seconds above 0, up to ten years, or None, not nan"),
        ({"timeout": math.inf}, "timeout must be seconds above 0, up to ten years, or None, not inf"),
        ({"timeout": 11 * 366 * 86_400}, "timeout must be seconds above 0, up to ten years, or None"),
        ({"retries": 1_000_001}, "retries must be a whole number from 0 to a million"),
        ({"memory_limit": 1 << 61}, "memory_limit must be at least 1M, or None"),
        ({"retries": -1}, "retries must be a whole number from 0 to a million, not -1"),
        ({"retries": 1.0}, "retries must be a whole number from 0 to a million, not 1.0"),
        ({"retries": True}, "retries must be a whole number from 0 to a million, not True"),
        ({"retries": None}, "retries must be a whole number from 0 to a million, not None"),
        ({"crash_retries": -1}, "crash_retries must be a whole number from 0 to a million, not -1"),
        ({"crash_retries": "2"}, "crash_retries must be a whole number from 0 to a million, not '2'"),
        ({"memory_limit": "much"}, "memory_limit must be bytes or a size such as '2G'"),
        ({"memory_limit": 1.5}, "memory_limit must be bytes or a size such as '2G'"),
        ({"memory_limit": True}, "memory_limit must be bytes or a size such as '2G'"),
        ({"memory_limit": "1023K"}, "memory_limit must be at least 1M, or None, not 1047552"),
        ({"queue": ""}, "queue must be a text of 1 to 100 characters, not ''"),
        ({"queue": "q" * 101}, "queue must be a text of 1 to 100 characters"),
        ({"queue": None}, "queue must be a text of 1 to 100 characters, not None"),
        ({"priority": 1_000_001}, "priority must be a whole number within a million of 0"),
        ({"priority": -1_000_001}, "priority must be a whole number within a million of 0"),
        ({"priority": 0.5}, "priority must be a whole number within a million of 0, not 0.5"),
        ({"priority": False}, "priority must be a whole number within a million of 0, not False"),
        ({"retry": 1}, "double: no option retry; there are timeout, retries, crash_retries"),
        ({"retry": 1, "pool": 2}, "double: no option pool, retry; there are"),
    ],
)
def test_an_option_that_is_not_allowed_is_refused_with_what_is(
    registry: Registry, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(TaskDefinitionError, match=why):
        task(**options)(double)
    assert registry == {}


@pytest.mark.parametrize("name", ["n" * 201, 5])
def test_a_name_that_the_store_cannot_keep_is_refused(registry: Registry, name: Any) -> None:
    with pytest.raises(TaskDefinitionError, match="name must be a text of 1 to 200 characters"):
        task(name=name)(double)
    assert registry == {}
