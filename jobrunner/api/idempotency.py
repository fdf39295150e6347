"""`Idempotency-Key`: a POST that is sent again is not done again."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from flask import Response, request
from sqlalchemy import Connection

from jobrunner.api import auth
from jobrunner.api.refusals import IdempotencyMismatchError, InvalidIdempotencyKeyError
from jobrunner.store import idempotency

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
MAX_CHARACTERS: Final = 255
_VISIBLE: Final = re.compile(r"[\x20-\x7e]*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"')  # a string of RFC 9651
_ESCAPED: Final = re.compile(r"\\(.)")


class Claim(NamedTuple):
    """The key of the request at hand, whose it is, and the SHA-256 of what it asks for."""

    owner: int
    key: str
    digest: str

    def replayed(self, connection: Connection) -> range | None:
        """Return the ids of the jobs that this key has made; None if it is new.

        Raises:
            IdempotencyMismatchError: it was used to ask for something else.
        """
        kept = idempotency.find(connection, self.owner, self.key)
        if kept is not None and kept.digest != self.digest:
            raise IdempotencyMismatchError(self.key)
        return None if kept is None else kept.ids

    def keep(self, connection: Connection, ids: Sequence[int]) -> None:
        """Remember these jobs, in the transaction that stores them."""
        idempotency.keep(connection, self.owner, self.key, self.digest, ids)


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


def as_replayed(before: Response, answer: Response) -> Response:
    """Return `answer`, marked if the one `before` was."""
    return replayed(answer) if REPLAYED in before.headers else answer
