"""Idempotency keys: what a client sends again gives back the jobs that it made the first time.

A key belongs to the token that it came with (0: to nobody): for others the same key is another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from jobrunner.store.tables import idempotency_key


@dataclass(frozen=True, slots=True)
class Kept:
    """What was submitted under a key; `digest` is the SHA-256 of what was asked."""

    digest: str
    ids: range


def find(connection: Connection, owner: int, key: str) -> Kept | None:
    """Return what was submitted under this key of `owner`; None if nothing was, or if its first job is removed."""
    table = idempotency_key.c
    query = select(table.digest, table.job_id, table.jobs).where(table.owner == owner, table.key == key)
    row = connection.execute(query).first()
    return None if row is None else Kept(row.digest, range(row.job_id, row.job_id + row.jobs))


def keep(connection: Connection, owner: int, key: str, digest: str, ids: Sequence[int]) -> None:
    """Remember what was submitted, in the transaction that submits it; `ids` follow each other."""
    row = {"owner": owner, "key": key, "digest": digest, "job_id": ids[0], "jobs": len(ids)}
    connection.execute(insert(idempotency_key), [row])
