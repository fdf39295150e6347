"""What celery runs, and how it is submitted; see `driver`."""

import os
import time

from celery import Celery

REDIS = os.environ["BENCH_REDIS"]

app = Celery("celery_app", broker=f"{REDIS}/0", backend=f"{REDIS}/1")
app.conf.update(task_acks_late=True, task_ignore_result=False)


@app.task(name="nothing")
def nothing() -> None:
    """Do nothing."""


@app.task(name="started")
def started() -> float:
    """Say when it started."""
    return time.time()


def submit(number: int) -> None:
    """Submit so many, one after another: celery sends each by itself."""
    for _ in range(number):
        nothing.apply_async()


def pick_up(number: int) -> list[float]:
    """Return the milliseconds from the return of `apply_async` to the first line of the task, the system being idle."""
    found = []
    for _ in range(number):
        job = started.apply_async()
        answered = time.time()
        time.sleep(0.02)  # to look at once would take the core that the job needs
        found.append((job.get(timeout=60) - answered) * 1000)
    return found


def there_and_back(number: int) -> list[float]:
    """Return the milliseconds of `apply_async().get()`."""
    found = []
    for _ in range(number):
        start = time.perf_counter()
        nothing.apply_async().get(timeout=60)
        found.append((time.perf_counter() - start) * 1000)
    return found


ORDERS = {"submit": submit, "pick_up": pick_up, "there_and_back": there_and_back}
