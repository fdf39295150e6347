"""Headers of requests and answers, as the OpenAPI document tells them."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_TEXT: Final[Mapping[str, Any]] = {"type": "string"}


class Header(NamedTuple):
    """One header.

    Attributes:
        schema: its values, as JSON Schema.
        always: it is there in every such answer.
    """

    name: str
    description: str
    schema: Mapping[str, Any] = _TEXT
    always: bool = False


# -- of requests ----------------------------------------------------------------------------------

IDEMPOTENCY_KEY: Final = Header(
    "Idempotency-Key",
    "1 to 255 visible ASCII characters, bare or in quotation marks.  The same key and the same body give back the "
    "same jobs, for as long as they are kept.",
    {"type": "string", "pattern": '^(?!""$)[!-~]([ -~]{0,253}[!-~])?$'},
)
PREFER: Final = Header("Prefer", "`wait=N`: answer as soon as there is news, after N seconds at the latest.")
IF_NONE_MATCH: Final = Header("If-None-Match", "The `ETag` that is known: no news is answered with 304.")
LAST_EVENT_ID: Final = Header(
    "Last-Event-ID", "The last event that was seen.", {"type": "string", "pattern": "^[0-9]{0,18}$"}
)

# -- of answers -----------------------------------------------------------------------------------

LOCATION: Final = Header(
    "Location", "Where the job is.", {"type": "string", "pattern": "^/jobs/[1-9][0-9]*$"}, always=True
)
RETRY_AFTER: Final = Header(
    "Retry-After",
    "After how many seconds it is worth to ask again; not there if nothing will change.",
    {"type": "integer", "minimum": 1},
)
ETAG: Final = Header("ETag", "The job's version.", {"type": "string", "pattern": '^"[0-9]+"$'}, always=True)
LINK: Final = Header("Link", 'The next page: `</jobs?...>; rel="next"`; not there on the last.')
REPLAYED: Final = Header(
    "Idempotency-Replayed", "The key has made these jobs before.", {"type": "string", "const": "true"}
)
PREFERENCE_APPLIED: Final = Header(
    "Preference-Applied", "What was heard of `Prefer`.", {"type": "string", "pattern": "^wait=[0-9]+$"}
)
CHALLENGE: Final = Header(
    "WWW-Authenticate",
    "`Bearer`, and what is wrong with the token.",
    {"type": "string", "pattern": "^Bearer "},
)
