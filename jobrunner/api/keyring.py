"""The tokens as a process of the API knows them."""

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from jobrunner.store import tokens
from jobrunner.store.engine import Store
from jobrunner.store.tokens import Token

FRESH_SECONDS: Final = 1.0  #: between two looks into the store; so long may a token outlive its revocation


class _Known(NamedTuple):
    """What was found at a moment of the monotonic clock."""

    at: float
    by_digest: Mapping[str, Token]


class Keyring:
    """Looks into the store once a second, or when it is shown a token that it does not know."""

    def __init__(self, store: Callable[[], Store]) -> None:
        """Read nothing yet: it must survive a fork."""
        self._store = store
        self._known = _Known(float("-inf"), {})
        self.is_locked = False  #: every request needs a token, for ever

    def lock(self) -> None:
        """Ask every request for a token, from now on."""
        self.is_locked = True

    def refresh(self) -> None:
        """Look into the store, if the last look was a while ago.

        Raises:
            StoreError: it cannot be read.
        """
        if time.monotonic() - self._known.at > FRESH_SECONDS:
            self._look()

    def find(self, secret: str) -> Token | None:
        """Return the token that `secret` is; None if it is none that is in force.

        It is looked up by its SHA-256, so the time that takes tells nothing: nobody can choose a digest.

        Raises:
            StoreError: the store cannot be read.
        """
        digest = tokens.digest_of(secret)
        return self._known.by_digest.get(digest) or self._look().get(digest)

    def _look(self) -> Mapping[str, Token]:
        at = time.monotonic()  # before it is read: what is revoked meanwhile does not count as just seen
        with self._store().read() as connection:
            self.is_locked = self.is_locked or tokens.ever_made(connection)
            self._known = _Known(at, tokens.in_force(connection))
        return self._known.by_digest
