"""What huey runs, and how it is submitted; see `driver`."""

import os

from huey import SqliteHuey

huey = SqliteHuey("bench", filename=os.environ["BENCH_HUEY_FILE"], fsync=True, store_none=True)


@huey.task()
def nothing() -> None:
    """Do nothing."""


def submit(number: int) -> None:
    """Submit so many, one after another: huey knows no batches."""
    for _ in range(number):
        nothing()


ORDERS = {"submit": submit}
