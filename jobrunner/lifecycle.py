"""The states of a job, every arrow between them, and the ways in which an attempt ends.

This table is the only place that knows which arrow exists: the store applies it,
the README's diagram is generated from it.
"""

from enum import StrEnum
from typing import Final, NamedTuple


class State(StrEnum):
    """Where a job stands; the last three are final."""

    QUEUED = "queued"  #: waits for a free worker, or for the moment it is due
    RUNNING = "running"  #: belongs to one dispatcher, under one attempt number
    SUCCEEDED = "succeeded"  #: the task returned, and its result is kept
    FAILED = "failed"  #: the attempt ended badly and no budget was left
    CANCELLED = "cancelled"  #: somebody asked, and it does not run any more


FINAL: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class Event(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    RELEASE = "release"
    STOP = "stop"
    CANCEL = "cancel"
    REQUEUE = "requeue"


class Move(NamedTuple):
    """One arrow: the states it may start from, the state it leads to, who says so."""

    sources: tuple[State, ...]
    target: State
    says_so: str


def _move(*sources: State, to: State, says_so: str) -> Move:
    return Move(sources, to, says_so)


# fmt: off
MOVES: Final[dict[Event, Move]] = {
    Event.CLAIM:   _move(State.QUEUED,  to=State.RUNNING,   says_so="dispatcher: a worker is free, or will be at once"),
    Event.SUCCEED: _move(State.RUNNING, to=State.SUCCEEDED, says_so="result writer: the task returned"),
    Event.FAIL:    _move(State.RUNNING, to=State.FAILED,    says_so="result writer: no budget is left"),
    Event.RETRY:   _move(State.RUNNING, to=State.QUEUED,    says_so="result writer: a budget is left"),
    Event.RELEASE: _move(State.RUNNING, to=State.QUEUED,    says_so="dispatcher: not run to its end, nothing charged"),
    Event.STOP:    _move(State.RUNNING, to=State.CANCELLED, says_so="result writer: stopped as asked"),
    Event.CANCEL:  _move(State.QUEUED,  to=State.CANCELLED, says_so="API: nothing ran yet"),
    Event.REQUEUE: _move(State.FAILED, State.CANCELLED, to=State.QUEUED, says_so="API: asked to run again"),
}
# fmt: on


def target(state: State, event: Event) -> State | None:
    """Return where `event` leads from `state`, or None where there is no such arrow."""
    move = MOVES[event]
    return move.target if state in move.sources else None


class Ending(StrEnum):
    """How one attempt ended.  All but the first and the last two are also an error's `kind`."""

    SUCCEEDED = "succeeded"
    EXCEPTION = "exception"  #: the task raised
    TIMEOUT = "timeout"  #: it ran past its `timeout`
    MEMORY_LIMIT = "memory_limit"  #: it grew past its `memory_limit`
    CRASHED = "crashed"  #: its process died: a signal, or an exit code
    LOST = "lost"  #: its worker or its dispatcher died
    UNSERIALIZABLE = "unserializable"  #: its value cannot become JSON, or too much of it
    CANCELLED = "cancelled"  #: stopped because somebody asked
    RELEASED = "released"  #: given back: its dispatcher had to go, or it would not have begun soon


def diagram() -> str:
    """Return the arrows as a Mermaid state diagram; the README shows exactly this."""
    lines = ["stateDiagram-v2", "    [*] --> queued: submit"]
    for event, move in MOVES.items():
        lines += [f"    {source} --> {move.target}: {event}" for source in move.sources]
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join(lines)
