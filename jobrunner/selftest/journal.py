"""The selftest's own record of what it asked for and what it was answered, kept outside the store.

A line of JSON for each, written when it happens: what is asked before it is sent, what is answered as it comes.
"""

import itertools
import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self


class Journal:
    """Writes the record; may be shared by threads."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._began = time.monotonic()
        self._numbers = itertools.count(1)
        self._writing = threading.Lock()
        self._answered: set[int] = set()
        self.acknowledged = 0  #: jobs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write no more."""
        os.close(self._fd)

    def asked(self, jobs: Sequence[dict[str, Any]], key: str | None) -> int:
        """Note a submission that is about to be sent; return its number."""
        with self._writing:
            number = next(self._numbers)
            self._write(asked=number, key=key, jobs=list(jobs))
        return number

    def acknowledge(self, number: int, ids: Sequence[int], *, replayed: bool) -> None:
        """Note that a submission was answered with these ids."""
        with self._writing:
            self._write(acknowledged=number, ids=list(ids), replayed=replayed)
            self.acknowledged += 0 if number in self._answered else len(ids)
            self._answered.add(number)

    def deed(
        self, what: str, job_id: int, status: int | None, state: str | None, version: int | None
    ) -> None:
        """Note what was done to a job (`cancel`, `retry`, `look`) and what was answered.

        Args:
            what: which of these.
            job_id: the job.
            status: of HTTP; None if there was no answer.
            state: of the job, as answered; None if the answer does not show it.
            version: of the job, as answered.
        """
        with self._writing:
            self._write(deed=what, job=job_id, status=status, state=state, version=version)

    def _write(self, **said: Any) -> None:
        line = json.dumps({"at": round(time.monotonic() - self._began, 3), **said})
        os.write(self._fd, f"{line}\n".encode())


class Acknowledgement(NamedTuple):
    """An answer to a submission."""

    ids: tuple[int, ...]
    replayed: bool


@dataclass
class Submission:
    """What was asked for at once, under `key` if that is not None, and each acknowledgement that came."""

    key: str | None
    jobs: list[dict[str, Any]]
    acknowledgements: list[Acknowledgement] = field(default_factory=list)

    @property
    def stamps(self) -> list[str]:
        """Return what names each of the jobs in their parameters."""
        return [job["params"]["stamp"] for job in self.jobs]


class Deed(NamedTuple):
    """What was done to a job, and the answer; see `Journal.deed`."""

    what: str
    status: int | None
    state: str | None
    version: int | None


@dataclass
class Record:
    """What a journal says: submissions in order, and by job id what was done to it, in order."""

    submissions: list[Submission] = field(default_factory=list)
    deeds: dict[int, list[Deed]] = field(default_factory=dict)


def read(path: Path) -> Record:
    """Read a journal."""
    record = Record()
    by_number: dict[int, Submission] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        said = json.loads(line)
        if "asked" in said:
            submission = by_number[said["asked"]] = Submission(said["key"], said["jobs"])
            record.submissions.append(submission)
        elif "acknowledged" in said:
            answer = Acknowledgement(tuple(said["ids"]), said["replayed"])
            by_number[said["acknowledged"]].acknowledgements.append(answer)
        else:
            deed = Deed(said["deed"], said["status"], said["state"], said["version"])
            record.deeds.setdefault(said["job"], []).append(deed)
    return record
