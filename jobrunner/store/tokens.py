"""Tokens: who may use the API, and for what.

Kept are digests alone.  Once a token was made, every request needs one: the row of a revoked token stays, so
that revoking the last one shuts the door and does not open it.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from jobrunner.errors import TokenNameError
from jobrunner.store.tables import token


class Scope(StrEnum):
    """What a token is good for; each includes those before it."""

    READ = "read"  #: see everything
    SUBMIT = "submit"  #: submit, cancel and retry jobs
    ADMIN = "admin"  #: delete jobs, pause queues

    def covers(self, needed: "Scope") -> bool:
        """Whether what needs `needed` may be done with this."""
        return _ORDER.index(self) >= _ORDER.index(needed)


_ORDER: Final = tuple(Scope)
_PREFIX: Final = "jr_"  # tells those who find one where it belongs


@dataclass(frozen=True, slots=True)
class Token:
    """A token that is in force; the id belongs to no other one, ever."""

    id: int
    name: str
    scope: Scope
    created_at: datetime


def create(connection: Connection, name: str, scope: Scope, *, now: datetime) -> str:
    """Put a new token in force, and return it: nobody can learn it later.

    Raises:
        TokenNameError: another token in force has this name.
    """
    secret = _PREFIX + secrets.token_urlsafe(32)
    row = {"name": name, "scope": scope, "digest": digest_of(secret), "created_at": now}
    try:
        connection.execute(insert(token), [row])
    except IntegrityError:
        raise TokenNameError(f"there is a token named {name!r}: revoke it first") from None
    return secret


def digest_of(secret: str) -> str:
    """Return what is kept of a token: 256 random bits need no salt, and no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def revoke(connection: Connection, name: str, *, now: datetime) -> None:
    """Take a token out of force, for ever.

    Raises:
        TokenNameError: no token in force has this name.
    """
    its = (token.c.name == name) & token.c.revoked_at.is_(None)
    if connection.execute(update(token).where(its).values(revoked_at=now)).rowcount != 1:
        raise TokenNameError(f"there is no token named {name!r}")


def in_force(connection: Connection) -> Mapping[str, Token]:
    """Return the tokens that are in force, by digest, in the order in which they were made."""
    columns = (token.c[name] for name in Token.__slots__)
    query = select(token.c.digest, *columns).where(token.c.revoked_at.is_(None)).order_by(token.c.id)
    return {
        digest: Token(number, name, Scope(scope), created_at)
        for digest, number, name, scope, created_at in connection.execute(query)
    }


def ever_made(connection: Connection) -> bool:
    """Whether every request needs a token: one was made once, though it may be revoked by now."""
    return connection.execute(select(token.c.id).limit(1)).first() is not None
