"""Where in a body an error is: JSON pointers (RFC 6901), as URI fragments."""

from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote

from jobrunner.errors import InvalidFieldsError

Path: TypeAlias = tuple[str | int, ...]

MAX_ERRORS: Final = 100  #: of one body that are reported
_PLAIN: Final = "!$&'()*+,;=:@/?-._~"  # what a fragment may hold as it is (RFC 3986)


class Flaw(NamedTuple):
    """One thing that is wrong with a body."""

    path: Path
    detail: str


def pointer(path: Path) -> str:
    """Return `#/labels/a~1b` for `("labels", "a/b")`."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in path)
    return "#" + "".join(f"/{quote(part, _PLAIN)}" for part in parts)


def invalid_fields(flaws: Iterable[Flaw]) -> InvalidFieldsError:
    """Return the error that reports the first `MAX_ERRORS` flaws."""
    listed = list(flaws)[:MAX_ERRORS]
    return InvalidFieldsError([{"pointer": pointer(one.path), "detail": one.detail} for one in listed])
