"""Every prime up to a billion, by a sieve that needs little memory."""

import math
from collections.abc import Generator
from typing import Annotated, Any

from msgspec import Meta

from jobrunner import current_job, task


@task(name="examples.primes")
def primes(
    n: Annotated[int, Meta(ge=0, le=10**11)] = 1_000_000_000,
    segment: Annotated[int, Meta(ge=1_000, le=100_000_000)] = 5_000_000,
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Count the primes up to and including `n`; one partial result a segment.

    The segmented sieve of Eratosthenes: C. Bays and R. H. Hudson, BIT 17 (1977), 121-127.  The primes up
    to the square root of `n` cross out their multiples in one segment after the other.

    Args:
        n: where to stop.
        segment: how many numbers to sieve at a time, a byte each.

    Raises:
        ValueError: `n` is below 0, or `segment` below 1.
    """
    if n < 0 or segment < 1:
        raise ValueError(f"n must be at least 0 and segment at least 1, not {n} and {segment}")
    small_primes = _small_primes(math.isqrt(n))
    count, largest = 0, None
    for first in range(2, n + 1, segment):
        last = min(first + segment - 1, n)
        is_prime = _sieved(first, last, small_primes)
        found = is_prime.count(1)
        if found:
            count += found
            largest = first + is_prime.rfind(1)
        current_job().progress(last, n)
        yield {"first": first, "last": last, "primes": found, "count": count}
    return {"count": count, "largest": largest}


def _sieved(first: int, last: int, small_primes: list[int]) -> bytearray:
    """Return a 1 for each prime from `first` to `last`, and a 0 for each other number."""
    is_prime = bytearray(b"\1") * (last - first + 1)
    for prime in small_primes:
        if prime * prime > last:
            break
        # Smaller multiples than its square have a smaller prime factor.
        multiple = max(prime * prime, -(-first // prime) * prime)
        is_prime[multiple - first :: prime] = bytes(len(range(multiple, last + 1, prime)))
    return is_prime


def _small_primes(limit: int) -> list[int]:
    if limit < 2:
        return []
    is_prime = _sieved(2, limit, _small_primes(math.isqrt(limit)))
    return [number for number, flag in enumerate(is_prime, start=2) if flag]
