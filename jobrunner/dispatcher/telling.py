"""What a task gave, or raised, as a job process tells it: JSON within the limits, errors in their own words."""

import traceback
from pathlib import Path
from typing import Any, Final

from jobrunner import sizes
from jobrunner.errors import UnserializableError
from jobrunner.lifecycle import Ending
from jobrunner.tasks.encoding import to_json

MESSAGE_CHARACTERS: Final = 10_000  #: of an exception's message that are kept
TRACEBACK_CHARACTERS: Final = 60_000
_HERE: Final = Path(__file__).parent


def encoded(value: Any, name: str, limit: int, setting: str) -> str:
    """Return `value` as JSON of at most `limit` characters.

    Raises:
        UnserializableError: it has no form in JSON, or a longer one.
    """
    if isinstance(value, str) and len(value) > limit:  # which takes no copy of it to know
        raise too_large(name, len(value), limit, setting)
    text = to_json(value, name)
    if len(text) > limit:
        raise too_large(name, len(text), limit, setting)
    return text


def too_large(what: str, size: int, limit: int, setting: str) -> UnserializableError:
    """Return the error of a value that takes more than a setting allows."""
    return UnserializableError(
        f"{what} comes to {sizes.in_words(size)} of JSON, {setting} is {limit} ({sizes.in_words(limit)}): "
        "write it to a file and give back its path, or raise the limit"
    )


def told(error: BaseException) -> dict[str, Any]:
    """Return an error as `lines.Failed` has it; the traceback starts at the first frame that is not ours."""
    frames = error.__traceback__
    while frames is not None and Path(frames.tb_frame.f_code.co_filename).parent == _HERE:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    if len(text) > TRACEBACK_CHARACTERS:
        half = TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    home = type(error).__module__
    name = type(error).__qualname__
    is_value = isinstance(error, UnserializableError)
    return {
        "kind": Ending.UNSERIALIZABLE if is_value else Ending.EXCEPTION,
        "type": name if home == "builtins" else f"{home}.{name}",
        "message": _readable(_message(error)),
        "traceback": None if is_value else _readable(text),
    }


def _readable(text: str) -> str:
    """Return `text` without halves of surrogate pairs, which are no text to UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _message(error: BaseException) -> str:
    try:
        return str(error)[:MESSAGE_CHARACTERS]
    except Exception as worse:  # noqa: BLE001 - user code: an exception whose text cannot be had
        return f"<its text cannot be had: {type(worse).__qualname__}>"
