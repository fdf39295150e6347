"""A client of the HTTP API, on the standard library alone.

from jobrunner.client import Client

client = Client("http://127.0.0.1:8000")
print(client.submit("examples.primes", n=1_000_000).result())
"""

from jobrunner.answers import Attempt as AttemptData
from jobrunner.answers import Job as JobData
from jobrunner.answers import Partial as PartialData
from jobrunner.answers import Queue, Stats, SubmitOptions, Task
from jobrunner.client.client import DEFAULT_URL, Client
from jobrunner.client.errors import (
    BadAnswerError,
    ClientError,
    JobCancelledError,
    JobFailedError,
    ProblemError,
    RemoteTraceback,
    UnreachableError,
)
from jobrunner.client.following import Follower
from jobrunner.client.job import Job, Partial

__all__ = [
    "DEFAULT_URL",
    "AttemptData",
    "BadAnswerError",
    "Client",
    "ClientError",
    "Follower",
    "Job",
    "JobCancelledError",
    "JobData",
    "JobFailedError",
    "Partial",
    "PartialData",
    "ProblemError",
    "Queue",
    "RemoteTraceback",
    "Stats",
    "SubmitOptions",
    "Task",
    "UnreachableError",
]
