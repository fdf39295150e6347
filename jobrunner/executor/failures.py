"""From a job's error to the exception that its future raises."""

import ast
import builtins
import re
from typing import Any, Final

from jobrunner.answers import Failure
from jobrunner.client import JobFailedError, RemoteTraceback

_ERRNO: Final = re.compile(r"\[Errno (\d{1,9})\] (.*?)(?:: ('.*'|\".*\"))?", re.DOTALL)


def exception(job_id: int, error: Failure) -> Exception:
    """Return what to raise in the place of what happened in the job's process.

    A builtin exception comes back as one of the same type and text, with the remote traceback as its cause.
    Whatever cannot be made so (exceptions of other modules, those that need more than a text, and every other
    kind of failure) is a JobFailedError, which names type and kind.
    """
    failed = JobFailedError(job_id, error)
    made = _builtin(error) if error["kind"] == "exception" else None
    if made is None:
        return failed
    made.__cause__ = failed.__cause__ or RemoteTraceback(str(failed))
    return made


def _builtin(error: Failure) -> Exception | None:
    kind = getattr(builtins, error.get("type") or "", None)
    message = error["message"]
    # Not SystemExit and its like: they would end the caller.
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return None
    guesses = (_made(kind, arguments, message) for arguments in _arguments(kind, message))
    return next(filter(None, guesses), None)


def _made(kind: type[Exception], arguments: tuple[Any, ...], message: str) -> Exception | None:
    """Return an exception that has this text; None if these arguments do not make one."""
    try:
        made = kind(*arguments)
        return made if type(made) is kind and str(made) == message else None
    except Exception:  # noqa: BLE001 - it needs more, as UnicodeDecodeError does, or its text cannot be had
        return None


def _arguments(kind: type[Exception], message: str) -> list[tuple[Any, ...]]:
    """Return what `kind` may have been made of, given its text."""
    found: list[tuple[Any, ...]] = [(message,)] if message else [()]
    if issubclass(kind, KeyError):  # its text is the key's repr
        found += [_literal(message), (_Shown(message),)]
    number = _ERRNO.fullmatch(message)
    if issubclass(kind, OSError) and number is not None:
        code, text, path = number.groups()
        found.insert(0, (int(code), text, *(_literal(path) if path else ())))
    return found


def _literal(text: str) -> tuple[Any, ...]:
    """Return the value that `text` is the repr of; nothing if that cannot be known."""
    try:
        return (ast.literal_eval(text),)
    except Exception:  # noqa: BLE001 - a text of any kind: "{{}}" is a TypeError
        return ()


class _Shown(str):
    """A text that is its own repr: stands for a key that only the job's process knows."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
