"""A client of the HTTP API, on the standard library alone.

from jobrunner.client import Client

client = Client("http://127.0.0.1:8000")
print(client.submit("examples.primes", n=1_000_000).result())
"""

from jobrunner.answers import Attempt as AttemptData
from jobrunner.answers import Item as ItemData
from jobrunner.answers import Job as JobData
from jobrunner.answers import Map as MapData
from jobrunner.answers import MapOptions, Queue, SubmitOptions, Task
from jobrunner.answers import Partial as PartialData
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
from jobrunner.client.streams import Settled
from jobrunner.figures import Stats

__all__ = [
    "DEFAULT_URL",
    "AttemptData",
    "BadAnswerError",
    "Client",
    "ClientError",
    "Follower",
    "ItemData",
    "Job",
    "JobCancelledError",
    "JobData",
    "JobFailedError",
    "MapData",
    "MapOptions",
    "Partial",
    "PartialData",
    "ProblemError",
    "Queue",
    "RemoteTraceback",
    "Settled",
    "Stats",
    "SubmitOptions",
    "Task",
    "UnreachableError",
]
