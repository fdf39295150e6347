"""Cursors: where a page of a list ended, for which filters.  Opaque to clients, and refused elsewhere."""

import base64
import binascii
import hashlib
import struct
from typing import Final

from jobrunner.errors import InvalidCursorError
from jobrunner.store.lists import Filter

_FORM: Final = struct.Struct(">q8s")  # the last id, and a digest that binds it to the filters


def encode(last_id: int, wanted: Filter) -> str:
    """Return the cursor of a page that ended with `last_id`."""
    packed = _FORM.pack(last_id, _digest(last_id, wanted))
    return base64.urlsafe_b64encode(packed).decode("ascii").rstrip("=")


def decode(cursor: str, wanted: Filter) -> int:
    """Return the id after which the next page begins.

    Raises:
        InvalidCursorError: `encode` did not make it, or it did so for other filters.
    """
    try:
        packed = base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True)
        last_id, _ = _FORM.unpack(packed)
    except (binascii.Error, struct.error, ValueError):
        raise InvalidCursorError from None
    if cursor != encode(last_id, wanted):
        raise InvalidCursorError
    return int(last_id)


def _digest(last_id: int, wanted: Filter) -> bytes:
    named = (
        last_id,
        sorted(set(wanted.states)),
        wanted.task,
        wanted.queue,
        sorted(set(wanted.labels)),
        wanted.created_after,
    )
    return hashlib.blake2b(repr(named).encode(), digest_size=8).digest()
