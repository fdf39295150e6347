"""One number at a time: a task to be mapped over very many, and one that counts what came of them."""

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta

from jobrunner import task

_WITNESSES: Final = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


@task(name="examples.is_prime")
def is_prime(n: Annotated[int, Meta(ge=0, le=10**18)] = 2**59 - 55) -> bool:
    """Say whether `n` is prime.

    The test of Miller and Rabin with the first twelve primes errs on no number below 3 * 10^23: J. Sorenson and
    J. Webster, Math. Comp. 86 (2017), 985-1003.

    Args:
        n: any number up to 10^18.
    """
    if n < 2:
        return False
    for prime in _WITNESSES:
        if n % prime == 0:
            return n == prime
    twos = ((n - 1) & (1 - n)).bit_length() - 1
    odd = (n - 1) >> twos
    return all(_is_passed(pow(witness, odd, n), n, twos) for witness in _WITNESSES)


def _is_passed(power: int, n: int, twos: int) -> bool:
    if power in (1, n - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % n
        if power == n - 1:
            return True
    return False


@task(name="examples.how_many")
def how_many(values: Iterator[bool]) -> int:
    """Count the values that are true, of a map job whose `reduce` this is.

    Args:
        values: come one by one, however many there are.
    """
    return sum(values)
