"""What the task modules hold, learnt from a job process: the dispatcher itself never runs user code."""

from typing import Any, NamedTuple

from jobrunner.dispatcher.handle import IMPORT_SECONDS, Handle
from jobrunner.dispatcher.tickets import Code, Limits
from jobrunner.errors import TaskModulesError


class Catalogue(NamedTuple):
    """The tasks that can be served, and why the rest cannot.

    Attributes:
        code: the modules that do not kill the process which imports them.
        tasks: name, doc, params and options of each task.
        errors: by module, a traceback or what became of the process.
    """

    code: Code
    tasks: list[dict[str, Any]]
    errors: dict[str, str]


def describe(code: Code, limits: Limits) -> Catalogue:
    """Import the modules in a job process of their own and return what they hold.

    A module that kills the process, or never comes back, is left out, as one that raises is.

    Raises:
        TaskModulesError: two tasks have one name, or the process dies without a module to blame.
    """
    errors: dict[str, str] = {}
    while True:
        hello, importing, why = _hear_hello(code, limits)
        if hello is not None:
            if hello["refused"]:
                raise TaskModulesError(hello["refused"])
            return Catalogue(code, hello["tasks"], hello["errors"] | errors)
        if importing not in code.modules:
            raise TaskModulesError(f"a job process cannot start: {why}")
        errors[importing] = f"importing it ended the process: {why}"
        code = code._replace(modules=tuple(name for name in code.modules if name != importing))


def _hear_hello(code: Code, limits: Limits) -> tuple[dict[str, Any] | None, str | None, str]:
    """Return what a new job process says of itself, or the module it was importing and how it ended."""
    process = Handle(code, limits)
    try:
        greeting = process.greet()
    finally:
        death = process.kill()
        rest = process.read_output()
        process.close()
    how = f"killed by {death.signal}" if death.signal else f"exit code {death.exit_code}"
    if greeting.timed_out:
        how = f"it took more than {IMPORT_SECONDS:g} s"
    printed = (greeting.printed + rest).decode("utf-8", "replace")
    return greeting.hello, greeting.importing, f"{how}\n{printed}".strip()
