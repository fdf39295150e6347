"""The first curl command that somebody may want to try."""

import json
import shlex
from collections.abc import Sequence
from typing import Any, Final

_FAVOURITE: Final = "examples.primes"


def first_curl_line(url: str, tasks: Sequence[str], *, needs_token: bool = False) -> str:
    """Return a command that submits a task, or that lists them if there is none that it may submit.

    Args:
        url: the API's address.
        tasks: names of tasks that need no parameter.
        needs_token: it must come with one, which is in JOBRUNNER_TOKEN.
    """
    curl = "curl -s"
    if needs_token:
        curl += ' -H "Authorization: Bearer $JOBRUNNER_TOKEN"'
    if not tasks:
        return f"{curl} {url}/tasks"
    body: dict[str, Any] = {"task": tasks[0]}
    if _FAVOURITE in tasks:
        body = {"task": _FAVOURITE, "params": {"n": 1_000_000}}
    return f"{curl} {url}/jobs -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
