"""Idempotency keys: what a client sends again gives back the jobs that it made the first time.

A key belongs to the token that it came with (0: to nobody): for others the same key is another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, insert, select

from jobrunner.store.quick import Quick, Source
from jobrunner.store.tables import idempotency_key


@dataclass(frozen=True, slots=True)
class Kept:
    """What was submitted under a key; `digest` is the SHA-256 of what was asked."""

    digest: str
    ids: range


def find(source: Source, owner: int, key: str) -> Kept | None:
    """Return what was submitted under this key of `owner`; None if nothing was, or if its first job is removed."""
    row = _FOUND.first(source, owner=owner, key=key)
    return None if row is None else Kept(row[0], range(row[1], row[1] + row[2]))


_FOUND: Final = Quick(
    select(idempotency_key.c.digest, idempotency_key.c.job_id, idempotency_key.c.jobs).where(
        idempotency_key.c.owner == bindparam("owner"), idempotency_key.c.key == bindparam("key")
    )
)


def keep(connection: Connection, owner: int, key: str, digest: str, ids: Sequence[int]) -> None:
    """Remember what was submitted, in the transaction that submits it; `ids` follow each other."""
    row = {"owner": owner, "key": key, "digest": digest, "job_id": ids[0], "jobs": len(ids)}
    connection.execute(insert(idempotency_key), [row])
