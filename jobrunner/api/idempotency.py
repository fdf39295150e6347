"""`Idempotency-Key`: a POST that is sent again is not done again."""

import hashlib
import json
import re
from typing import Any, Final

from flask import Response, request

from jobrunner.api import auth
from jobrunner.api.intake import Claim
from jobrunner.api.refusals import InvalidIdempotencyKeyError

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
MAX_CHARACTERS: Final = 255
_VISIBLE: Final = re.compile(r"[\x20-\x7e]*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')  # a string of RFC 9651
_ESCAPED: Final = re.compile(r"\\(.)")


def read(asked: Any) -> Claim | None:
    """Return the claim of the request at hand, whose body is the JSON of `asked`; None if it has no key.

    Raises:
        InvalidIdempotencyKeyError: the key is empty, too long, or not of visible ASCII characters.
    """
    sent = request.headers.get(HEADER)
    if sent is None:
        return None
    quoted = _QUOTED.fullmatch(sent)
    key = _ESCAPED.sub(r"\1", quoted[1]) if quoted else sent
    if not key or len(key) > MAX_CHARACTERS or not _VISIBLE.fullmatch(key):
        raise InvalidIdempotencyKeyError(f"{HEADER}: send 1 to {MAX_CHARACTERS} visible ASCII characters")
    said = json.dumps([request.path.rstrip("/"), asked], sort_keys=True)
    return Claim(auth.owner(), key, hashlib.sha256(said.encode()).hexdigest())


def replayed(answer: Response) -> Response:
    """Return `answer`, marked as one to a request that was not carried out again."""
    answer.headers[REPLAYED] = "true"
    return answer
