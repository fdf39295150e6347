"""Pi from random points: how fast an estimate gets better, and how slowly."""

import math
import random
from collections.abc import Generator
from typing import Annotated, Any

from msgspec import Meta

from jobrunner import current_job, task


@task(name="examples.pi")
def pi(
    samples: Annotated[int, Meta(ge=1_000, le=10**11)] = 20_000_000,
    batch: Annotated[int, Meta(ge=1_000)] = 500_000,
    seed: int | None = None,
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Estimate pi by Monte Carlo; one partial result a batch.

    A random point of the unit square lies in its quarter circle with probability p = pi/4.  After n points
    with k hits, p is estimated by k/n, with the standard error of a proportion, sqrt(p (1 - p) / n):
    a hundred times the points for one more digit.  Source: J. M. Hammersley and D. C. Handscomb,
    "Monte Carlo Methods", 1964, chapter 5 (hit-or-miss).

    Args:
        samples: how many points.
        batch: how many of them between two partial results.
        seed: the same seed gives the same estimate; null gives another one each time.

    Raises:
        ValueError: `samples` or `batch` is below 1.
    """
    if samples < 1 or batch < 1:
        raise ValueError(f"samples and batch must be at least 1, not {samples} and {batch}")
    uniform = random.Random(seed).random  # noqa: S311 - a simulation keeps no secret
    done = hits = 0
    while done < samples:
        points = min(batch, samples - done)
        hits += sum(math.hypot(uniform(), uniform()) < 1.0 for _ in range(points))
        done += points
        current_job().progress(done, samples)
        yield _estimated(hits, done)
    return _estimated(hits, done)


def _estimated(hits: int, samples: int) -> dict[str, Any]:
    share = hits / samples
    return {
        "samples": samples,
        "estimate": 4.0 * share,
        "standard_error": 4.0 * math.sqrt(share * (1.0 - share) / samples),
    }
