"""Tokens, and whose an idempotency key is."""

import pytest
from sqlalchemy.exc import IntegrityError

from jobrunner.errors import TokenNameError
from jobrunner.store import idempotency, tokens
from jobrunner.store.engine import Store
from jobrunner.store.idempotency import Kept
from jobrunner.store.tokens import Scope
from tests.store.books import START, Books


def make(store: Store, name: str, scope: Scope = Scope.READ) -> str:
    with store.write(durable=True) as connection:
        return tokens.create(connection, name, scope, now=START)


def revoke(store: Store, name: str) -> None:
    with store.write(durable=True) as connection:
        tokens.revoke(connection, name, now=START)


def names(store: Store) -> list[str]:
    with store.read() as connection:
        return [one.name for one in tokens.in_force(connection).values()]


def test_a_token_is_found_by_its_digest_while_it_is_in_force(store: Store) -> None:
    secret = make(store, "me", Scope.SUBMIT)
    make(store, "you")
    with store.read() as connection:
        found = tokens.in_force(connection)[tokens.digest_of(secret)]
    assert (found.name, found.scope, found.created_at) == ("me", Scope.SUBMIT, START)
    revoke(store, "me")
    assert names(store) == ["you"]


def test_two_tokens_in_force_do_not_share_a_name_and_no_two_share_an_id(store: Store) -> None:
    ids = []
    for _ in range(3):
        make(store, "me")
        with pytest.raises(TokenNameError, match="revoke it first"):
            make(store, "me")
        with store.read() as connection:
            ids += [one.id for one in tokens.in_force(connection).values()]
        revoke(store, "me")
        with pytest.raises(TokenNameError, match="no token named 'me'"):
            revoke(store, "me")
    assert len(set(ids)) == 3


def test_that_there_was_a_token_is_never_forgotten(store: Store) -> None:
    with store.read() as connection:
        assert not tokens.ever_made(connection)
    make(store, "me")
    revoke(store, "me")
    with store.read() as connection:
        assert tokens.ever_made(connection)


def test_each_owner_has_keys_of_his_own(books: Books) -> None:
    first, second = books.queued(), books.queued()
    with books.store.write(durable=True) as connection:
        idempotency.keep(connection, 0, "k", "d" * 64, [first])
        idempotency.keep(connection, 7, "k", "e" * 64, [second])
    with books.store.read() as connection:
        assert idempotency.find(connection, 0, "k") == Kept("d" * 64, range(first, first + 1))
        assert idempotency.find(connection, 7, "k") == Kept("e" * 64, range(second, second + 1))
        assert idempotency.find(connection, 8, "k") is None
    with pytest.raises(IntegrityError), books.store.write(durable=True) as connection:
        idempotency.keep(connection, 7, "k", "f" * 64, [first])
