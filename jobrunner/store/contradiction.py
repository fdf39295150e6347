"""What may be wrong with the books of a store."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What sort of contradiction it is."""

    FILE = "file"  #: the file is damaged, or a row breaks a rule of its table
    REFERENCE = "reference"  #: a row belongs to a job or a dispatcher that is not there
    TALLY = "tally"  #: the counts that are kept are not those of the rows
    GAP = "gap"  #: the events of a job are not numbered 1, 2, 3 ... up to its version
    PATH = "path"  #: no arrow of the lifecycle leads from one state to the next, or to where the job stands
    AFTER_FINAL = "after_final"  #: something was accepted after a final state
    TWICE = "twice"  #: an attempt ended more than once
    LATE = "late"  #: an attempt spoke when it had ended, or before it began
    PARTIALS = "partials"  #: the number of partial results is not that of their events
    ATTEMPTS = "attempts"  #: the rows of the attempts do not tell what the events tell
    UNATTENDED = "unattended"  #: a running job whose dispatcher has ended
    ITEM_TWICE = "item_twice"  #: an item of a map job has more than one end
    ITEM_LOST = "item_lost"  #: a map job has succeeded, and an item of it has not
    ITEMS = "items"  #: a map job does not say of its items what their rows say
    CHUNK = "chunk"  #: a chunk is in hand, and nobody can have it


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One place where the books do not agree; `job_id` is None where it is not about one job."""

    kind: Kind
    job_id: int | None
    detail: str

    def __str__(self) -> str:
        return (
            f"{self.kind}: {self.detail}"
            if self.job_id is None
            else f"{self.kind}: job {self.job_id}: {self.detail}"
        )
