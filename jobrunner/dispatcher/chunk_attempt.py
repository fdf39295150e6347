"""Watching a chunk of a map job's items: whatever ends its job process costs the one item that ran."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from jobrunner.clock import utc_now
from jobrunner.dispatcher.attempt import Attempt
from jobrunner.dispatcher.handle import Handle
from jobrunner.dispatcher.lines import ChunkEnd, GarbageError, ItemFailed, Kind, meaning
from jobrunner.dispatcher.tickets import Chunk, ItemRun, Limits, Ran, Ticket
from jobrunner.lifecycle import Ending
from jobrunner.reports import Ended, EventKind, Report, Values, error
from jobrunner.reports import ItemFailed as ItemReport

ITEM_TRACEBACK_CHARACTERS: Final = 4000  #: of an item's traceback, its end: there may be a million of them

_VALUES: Final = msgspec.json.Decoder(list[msgspec.Raw])


class ChunkAttempt(Attempt):
    """One chunk in the hands of one job process; `ran` tells afterwards what became of it."""

    def __init__(self, ticket: Ticket, chunk: Chunk, process: Handle, *, limits: Limits, **rest: Any) -> None:
        limits = limits._replace(max_log_bytes=min(limits.max_log_bytes, chunk.log_bytes))
        super().__init__(ticket, process, limits=limits, **rest)
        self._chunk = chunk
        self._upto = chunk.first + chunk.item_count
        self._following = chunk.first  # the first item of which nothing is known
        self._items: list[Values | ItemReport] = []  # not reported yet
        self._failed: list[ItemRun] = []
        self._watched = chunk.first - 1  # the item that ran at the last tick
        self._item_seconds: float | None = None
        process.tail.begin(chunk.first, self._upto)
        self._limit: int | None = None  # set at the last tick: what has not begun by now never will

    def ran(self, seconds: float) -> Ran:
        """Return what became of the chunk, which took `seconds`."""
        item_seconds = seconds if self._item_seconds is None else self._item_seconds
        return Ran(seconds, self._following, item_seconds, tuple(self._failed), self._log.kept_bytes)

    # -- hearing ---------------------------------------------------------------------------------

    def _take(self, line: bytes, said: list[tuple[EventKind, str]]) -> None:
        kind = line[:1]
        if kind in _NOT_OF_ITEMS and self._process.is_ready:
            raise GarbageError
        if kind not in _OWN or self._last is not None or not self._process.is_ready:
            super()._take(line, said)
        elif kind == Kind.VALUES.value:
            first, count, values = meaning(line)
            if len(values) != count:
                raise GarbageError
            self._take_values(first, values, line[line.index(b"[", 2) : -1])
        elif kind == Kind.ITEM_FAILED.value:
            told: ItemFailed = meaning(line)
            if told.item != self._following:
                raise GarbageError
            more = {"type": told.type, "traceback": _end_of(told.traceback)}
            self._fail(told.item, error(Ending(told.kind), told.message, **more))
        else:
            end: ChunkEnd = meaning(line)
            if end.following != self._following:
                raise GarbageError
            self._item_seconds = end.seconds
            self._last = b"rnull", None

    def _take_values(self, first: int, values: Sequence[msgspec.Raw], text: bytes) -> None:
        """Take the values of items from `first` on, some of which may have been seen in the tail before.

        Args:
            first: the index of the first one.
            values: one by one.
            text: all of them, as a JSON array.
        """
        known = self._following - first
        if not 0 <= known <= len(values) or first + len(values) > self._upto:
            raise GarbageError
        fresh = values[known:]
        if fresh:
            text = b"[" + b",".join(fresh) + b"]" if known else text
            self._items.append(Values(self._following, len(fresh), text.decode("ascii")))
            self._slot.partials += len(fresh)
            self._following += len(fresh)

    def _read_lines(self) -> None:
        super()._read_lines()
        self._report_items()

    def _report_items(self) -> None:
        if self._items:
            self._outbox.add(self._report_of(tuple(self._items)))
            self._items = []

    def _report_of(self, items: tuple[Values | ItemReport, ...], closed: int | None = None) -> Report:
        return Report(self._ticket.job_id, self._ticket.attempt, utc_now(), items=items, closed=closed)

    # -- looking ---------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        current = self._process.tail.current
        if self._process.tail.is_late(now) and self._chunk.first <= current < self._upto - 1:
            self._give_back(current)
        if current != self._watched:
            self._watched = current
            if self._process.is_ready:
                self._started = now  # the time is each item's own
        else:
            self._look_at_tail()  # while one item runs on, what was done before it need not wait
            self._report_items()
        super()._tick(now)

    def _give_back(self, current: int) -> None:
        """Give back what waits behind an item that takes longer than a chunk was meant to."""
        if self._limit is not None and current < self._limit:
            self._upto = self._slot.given_back = self._limit
            self._slot.given_back_serial = self._ticket.serial
        else:  # by the next tick it is certain
            self._limit = current + 1
            self._process.tail.limit(self._limit)

    def _look_at_tail(self) -> None:
        """Take the values that were put aside, but not sent."""
        seen = self._process.tail.see()
        try:
            text = b"[" + seen.values + b"]" if seen.values.isascii() else b"[]"
            self._take_values(seen.first, _VALUES.decode(text), text)
        except (msgspec.DecodeError, GarbageError):  # it was written meanwhile, or by somebody else
            return

    # -- telling ---------------------------------------------------------------------------------

    def _conclude(self, ended: Ended) -> None:
        if ended.ending is not Ending.SUCCEEDED:
            self._charge(ended)
        self._outbox.add(self._report_of(tuple(self._items), closed=self._chunk.first))
        self._items = []

    def _charge(self, ended: Ended) -> None:
        """Find who pays for an end that came too early."""
        if self._last is not None and self._last[1] is not None:  # an error: it never came to an item
            told = ended.error or {}
            told |= {"traceback": _end_of(told.get("traceback"))}
            for item in range(self._following, self._upto):
                self._fail(item, told)
            return
        self._look_at_tail()
        current = self._process.tail.current
        has_begun = self._following <= current < self._upto
        if ended.ending in (Ending.CANCELLED, Ending.RELEASED):
            if has_begun and self._chunk.once and ended.ending is Ending.RELEASED:
                why = "its dispatcher had to stop, and crash_retries is 0: it is not run twice"
                self._fail(self._following, error(Ending.LOST, why))
        elif self._last is None and self._following < self._upto and ended.error is not None:
            # Of items that must not run twice, all that may have run, should the tail not tell what came of them.
            upto = min(current, self._upto - 1) if self._chunk.once else self._following
            for item in range(self._following, max(upto, self._following) + 1):
                self._fail(item, ended.error)

    def _fail(self, item: int, told: dict[str, Any]) -> None:
        charged = self._chunk.charged(Ending(told["kind"]))
        is_final = charged is None
        self._items.append(ItemReport(item, told, charged, is_final))
        self._failed.append(ItemRun(item, charged, is_final))
        self._following = item + 1


def _end_of(text: str | None) -> str | None:
    return text if text is None else text[-ITEM_TRACEBACK_CHARACTERS:]


_NOT_OF_ITEMS: Final = {Kind.RESULT.value, Kind.PARTIAL.value, Kind.PROGRESS.value}
_OWN: Final = {Kind.VALUES.value, Kind.ITEM_FAILED.value, Kind.CHUNK_END.value}
