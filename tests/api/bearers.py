"""Tokens for tests."""

from jobrunner.clock import utc_now
from jobrunner.store import tokens
from jobrunner.store.engine import Store
from jobrunner.store.tokens import Scope


def make(store: Store, name: str, scope: str) -> str:
    """Make a token, as the command line does."""
    with store.write(durable=True) as connection:
        return tokens.create(connection, name, Scope(scope), now=utc_now())


def revoke(store: Store, name: str) -> None:
    with store.write(durable=True) as connection:
        tokens.revoke(connection, name, now=utc_now())


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}
