"""Tasks that do real work: read one to learn how to write your own.

With the setting `tasks = jobrunner.examples` all are served: importing a module registers its task.
"""

from jobrunner.examples import is_prime, mandelbrot, pi, primes, train_digits, word_count

__all__ = ["is_prime", "mandelbrot", "pi", "primes", "train_digits", "word_count"]
