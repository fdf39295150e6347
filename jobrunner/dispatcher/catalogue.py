"""What the task modules hold, learnt from a job process: the dispatcher itself never runs user code."""

import signal
from typing import Any, NamedTuple

from jobrunner.dispatcher.handle import Handle
from jobrunner.dispatcher.lines import Hello
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

    A module that ends the process, or never comes back, is left out, as one that raises is.  But a SIGKILL may come
    from elsewhere, as the kernel's OOM killer sends it, so only the second one is the module's fault.

    Raises:
        TaskModulesError: two tasks have one name, or the process dies without a module to blame.
    """
    errors: dict[str, str] = {}
    suspects: set[str | None] = set()
    while True:
        hello, importing, why, killed = _hear_hello(code, limits)
        if hello is not None:
            if hello.refused:
                raise TaskModulesError(hello.refused)
            return Catalogue(code, hello.tasks, hello.errors | errors)
        if killed and importing not in suspects:
            suspects.add(importing)
            continue
        if importing not in code.modules:
            raise TaskModulesError(f"a job process cannot start: {why}")
        errors[importing] = f"importing it ended the process: {why}"
        code = code._replace(modules=tuple(name for name in code.modules if name != importing))


def _hear_hello(code: Code, limits: Limits) -> tuple[Hello | None, str | None, str, bool]:
    """Return what a new job process says of itself, or the module it was importing and how it ended.

    The last says whether that was by a SIGKILL which is not our own.
    """
    process = Handle(code, limits)
    try:
        greeting = process.greet()
    finally:
        death = process.kill()
        rest = process.read_output()
        process.close()
    end = f"killed by {death.signal}" if death.signal else f"exit code {death.exit_code}"
    printed = (greeting.printed + rest).decode("utf-8", "replace")
    killed = death.signal == signal.SIGKILL.name and greeting.hello is None and greeting.fault is None
    return greeting.hello, greeting.importing, f"{greeting.fault or end}\n{printed}".strip(), killed
