"""A client of the HTTP API, on the standard library alone.

from jobrunner.client import Client

job = Client("http://127.0.0.1:8000").submit("examples.primes", {"n": 1000000})
"""

from jobrunner.client.answers import Job, Partial, Partials, Task
from jobrunner.client.client import Client
from jobrunner.client.errors import BadAnswerError, ClientError, ProblemError, UnreachableError
from jobrunner.client.following import Follower

__all__ = [
    "BadAnswerError",
    "Client",
    "ClientError",
    "Follower",
    "Job",
    "Partial",
    "Partials",
    "ProblemError",
    "Task",
    "UnreachableError",
]
