"""Reading a request's body as JSON, strictly: what two readers could take for two things is refused."""

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from flask import request
from gunicorn.http.errors import ParseException  # type: ignore[import-untyped]
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from jobrunner.api.context import this_api
from jobrunner.api.patience import TooSlowError
from jobrunner.api.pointers import MAX_ERRORS, Flaw, Path, invalid_fields
from jobrunner.api.refusals import BodyTooLargeError, BodyTooSlowError, UnsupportedMediaTypeError
from jobrunner.errors import InvalidRequestError, NotJsonError

MAX_DEPTH: Final = 64  #: of lists and objects inside each other
_ESCAPED_ILLS: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")  # an escape is their only way into JSON
_ILLS: Final = re.compile("[\0\ud800-\udfff]")


def read() -> Any:
    """Return the request's body.

    Raises:
        UnsupportedMediaTypeError: it is not sent as JSON.
        BodyTooSlowError: its client has not sent it in time.
        BodyTooLargeError: it is larger than `max_body_bytes`.
        NotJsonError: it is not JSON.
        InvalidRequestError: it is JSON that cannot be kept, or cannot be understood in one way only.
        InvalidFieldsError: some text in it cannot be kept.
    """
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        sent = (
            f"it came as {request.mimetype[:100]}" if request.mimetype else "it came without a Content-Type"
        )
        raise UnsupportedMediaTypeError(f"{sent}: send JSON with Content-Type: application/json")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaTypeError("send the body uncompressed, without a Content-Encoding")
    return parse(_bytes())


def read_if_any(default: Any) -> Any:
    """Return the request's body, or `default` if it has none; raises what `read` raises."""
    return read() if _bytes() else default


def _bytes() -> bytes:
    limit = this_api().settings.max_body_bytes
    try:
        data = request.get_data()
    except RequestEntityTooLarge:
        raise _too_large(limit) from None
    except TooSlowError as error:
        raise BodyTooSlowError(str(error)) from None
    except (ClientDisconnected, ParseException, OSError) as error:
        raise InvalidRequestError(f"the body could not be read to its end: {error}") from None
    if len(data) > limit:
        raise _too_large(limit)
    if request.content_length not in (None, len(data)):
        raise InvalidRequestError(f"the body ended after {len(data)} of {request.content_length} bytes")
    return data


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"max_body_bytes is {limit}: send less at a time")


def parse(data: bytes) -> Any:
    """Return the value that `data` is the JSON of; raises what `read` raises."""
    text, value = _decoded(data)
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(value):
        raise InvalidRequestError(_TOO_DEEP)
    if _ESCAPED_ILLS.search(text):
        flaws = list(itertools.islice(_ill_texts(value, ()), MAX_ERRORS))
        if flaws:
            raise invalid_fields(flaws)
    return value


_TOO_DEEP: Final = f"lists and objects are nested more than {MAX_DEPTH} deep"


def _decoded(data: bytes) -> tuple[str, Any]:
    try:
        text = data.decode()
        return text, _decode(text)
    except RecursionError:
        raise InvalidRequestError(_TOO_DEEP) from None
    except UnicodeDecodeError as error:
        raise NotJsonError(f"it is not UTF-8: byte {error.start} is {data[error.start]:#04x}") from None
    except json.JSONDecodeError as error:
        raise NotJsonError(str(error)) from None
    except ValueError:  # Python refuses to read such a number, which would take it very long
        raise InvalidRequestError("a number in it has more than 4300 digits") from None


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(members)
    if len(made) < len(members):
        twice, _ = Counter(name for name, _ in members).most_common(1)[0]
        raise InvalidRequestError(f"an object has two members named {json.dumps(twice):.100}")
    return made


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise InvalidRequestError(f"the number {text:.40} is larger than any that can be kept")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise NotJsonError(f"{name} is not JSON")


_decode: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant
).decode


def _is_deeper(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        inside = (one.values() if isinstance(one, dict) else one for one in level)
        level = [item for items in inside for item in items if type(item) in (dict, list)]
    return bool(level)


def _ill_texts(value: Any, path: Path) -> Iterator[Flaw]:
    if isinstance(value, str) and _ILLS.search(value):
        yield Flaw(path, "has a NUL or half a surrogate pair, which no text may have")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _ill_texts(item, (*path, index))
    elif isinstance(value, dict):
        for name, item in value.items():
            inside = (*path, _ILLS.sub("\ufffd", name))
            if inside[-1] != name:
                yield Flaw(inside, "its name has a NUL or half a surrogate pair, which no text may have")
            yield from _ill_texts(item, inside)
