"""What the task modules hold, learnt from a job process: the dispatcher itself never runs user code."""

import json
import time
from typing import Any, Final, NamedTuple

from jobrunner.dispatcher.handle import Handle
from jobrunner.dispatcher.lines import Kind
from jobrunner.dispatcher.tickets import Code, Limits
from jobrunner.errors import TaskModulesError

IMPORT_SECONDS: Final = 120.0  #: for all task modules together


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
    give_up_at = time.monotonic() + IMPORT_SECONDS
    importing: str | None = None
    printed = b""
    try:
        while (left := give_up_at - time.monotonic()) > 0:
            sources = {key.data for key, _ in process.selector.select(left)}
            if "output" in sources:
                data = process.read_output()
                printed = (printed + data)[-4096:]
                if not data:
                    process.forget("output")
            if "pipe" in sources:
                try:
                    lines = process.reader.read()
                except EOFError:
                    break
                for line in lines:
                    if line[:1] == Kind.IMPORTING.value:
                        importing = json.loads(line[1:])
                    elif line[:1] == Kind.HELLO.value:
                        return json.loads(line[1:]), importing, ""
    finally:
        death = process.kill()
        printed += process.read_output()
        process.close()
    how = f"killed by {death.signal}" if death.signal else f"exit code {death.exit_code}"
    if left <= 0:
        how = f"it took more than {IMPORT_SECONDS:g} s"
    return None, importing, f"{how}\n{printed.decode('utf-8', 'replace')}".strip()
