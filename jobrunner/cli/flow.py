"""What happened between two looks at `GET /stats`: jobs done per second, and how busy each worker was."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from jobrunner.figures import Dispatcher, Stats

_MOST: Final = 400  #: looks that are remembered, more than a terminal is wide


class _Beat(NamedTuple):
    """What a dispatcher's heartbeat told: its moment in seconds, jobs done, busy seconds of each worker."""

    at: float
    done: int
    busy_seconds: dict[int, float]


class Flow:
    """Rates between the last two heartbeats of each dispatcher.

    A heartbeat comes about once a second, whenever somebody looks: what is counted is divided by the time between
    heartbeats, not between looks.

    Attributes:
        done_per_second: one for each look but the first, oldest first.
    """

    def __init__(self) -> None:
        self.done_per_second: deque[float] = deque(maxlen=_MOST)
        self._beats: dict[int, _Beat] = {}
        self._rates: dict[int, float] = {}
        self._shares: dict[tuple[int, int], float] = {}

    def note(self, stats: Stats) -> None:
        """Take in another look."""
        is_first = not self._beats
        alive = {one["id"]: one for one in stats["dispatchers"] if one["alive"]}
        self._beats = {known: beat for known, beat in self._beats.items() if known in alive}
        self._rates = {known: rate for known, rate in self._rates.items() if known in alive}
        now = _seconds(stats["at"])
        for one in alive.values():
            self._note(one, now)
        if not is_first:
            self.done_per_second.append(sum(self._rates.values()))

    def busy_share(self, dispatcher: int, worker: int) -> float | None:
        """Return how much of the time the worker was busy, from 0 to 1; None if that is not known."""
        return self._shares.get((dispatcher, worker))

    def _note(self, one: Dispatcher, now: float) -> None:
        slots = one["slots"]
        busy = {slot["worker"]: slot["busy_seconds"] for slot in slots}
        beat = _Beat(now - one["heartbeat_age_seconds"], sum(slot["done"] for slot in slots), busy)
        before = self._beats.get(one["id"])
        if before is None:  # it is not known how many it has done of late, only how many since it started
            before = _Beat(_seconds(one["started_at"]), beat.done, {})
        elif beat.at - before.at < _SAME_SECONDS:
            return
        self._beats[one["id"]] = beat
        seconds = max(_SAME_SECONDS, beat.at - before.at)
        self._rates[one["id"]] = max(0, beat.done - before.done) / seconds
        for worker, busy_seconds in busy.items():
            share = (busy_seconds - before.busy_seconds.get(worker, 0.0)) / seconds
            self._shares[one["id"], worker] = min(1.0, max(0.0, share))


_SAME_SECONDS: Final = 0.05  #: two looks that are nearer to each other have seen the same heartbeat


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw the last `width` values, one character each; the highest of them is a full block."""
    shown = list(values)[-width:] if width > 0 else []
    most = max(shown, default=0.0)
    steps = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round(value / most * steps) if most else 0] for value in shown)


_BLOCKS: Final = "▁▂▃▄▅▆▇█"
