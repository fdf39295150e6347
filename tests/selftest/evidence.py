"""What a selftest leaves behind, made by the real code but without processes: store, journal, notes of executions."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from jobrunner.lifecycle import Ending
from jobrunner.reports import EventKind, Report, Values
from jobrunner.selftest import audit, journal, wishes
from jobrunner.selftest.audit import Finding, Line
from jobrunner.selftest.journal import Journal
from jobrunner.store import maps, moves
from jobrunner.store.jobs import NewMap
from jobrunner.store.moves import Claimed
from tests.store.books import Books, new, partial
from tests.stores import prepared

ITEMS = 4
TASKS = ("selftest.squares", "selftest.stream", "selftest.fail")


class Evidence:
    """Each verb does one thing as it is done in a selftest: to the store, and in the journal."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "jobs.db"
        self.store = prepared(self.path)
        self.books = Books(self.store)
        self.journal = Journal(folder / "journal.jsonl")
        self.runs = folder / "runs.txt"
        self._journal_path = folder / "journal.jsonl"
        self._wishes: dict[int, dict[str, Any]] = {}

    # -- what people do --------------------------------------------------------------------------

    def wish(self, task: str = "stream", *, crash_retries: int = 9, n: int = 3) -> dict[str, Any]:
        params = {"stamp": f"a-{len(self._wishes) + 1}", "n": n}
        wish = {"task": f"selftest.{task}", "params": params, "retries": 0, "crash_retries": crash_retries}
        return {**wish, "map": {"index": {"range": [0, ITEMS]}}} if task == "item" else wish

    def store_it(self, wish: dict[str, Any]) -> int:
        """Put it into the store alone."""
        told = {name: wish[name] for name in ("task", "retries", "crash_retries")}
        newest_first = len(self._wishes)
        if "map" in wish:
            told["map"] = NewMap(json.dumps(wish["map"]), ITEMS)
        (job_id,) = self.books.submit(new(**told, params=json.dumps(wish["params"]), priority=newest_first))
        self._wishes[job_id] = wish
        return job_id

    def submit(self, task: str = "stream", *, key: str | None = None, **more: Any) -> int:
        wish = self.wish(task, **more)
        number = self.journal.asked([wish], key)
        job_id = self.store_it(wish)
        self.journal.acknowledge(number, [job_id], replayed=False)
        return job_id

    def look(self, job_id: int, what: str = "look", status: int | None = 200) -> None:
        job = self.books.job(job_id)
        self.journal.deed(what, job_id, status, job.state, job.version)

    # -- what jobs do ----------------------------------------------------------------------------

    def claim(self) -> Claimed:
        (claimed,) = self.books.claim(tasks=TASKS, limit=1)
        with self.runs.open("a", encoding="ascii") as file:
            file.write(f"{self._wishes[claimed.id]['params']['stamp']} {claimed.attempt}\n")
        return claimed

    def end(self, claimed: Claimed, ending: Ending, *, partials: int = 0) -> None:
        """End an attempt that has yielded so much, rightly."""
        wish = self._wishes[claimed.id]
        said = map(partial, wishes.partials(wish, claimed.attempt)[:partials])
        self.books.report(self.books.says(claimed, *said))
        more = {}
        if ending is Ending.SUCCEEDED:
            more["result"] = json.dumps(wishes.result(wish, claimed.attempt))
        self.books.report(self.books.end_of(claimed, ending, **more))
        self.books.later(1000)  # past any backing off

    def succeeded(self, **more: Any) -> int:
        """A stream that crashed in its first attempt, and came to its end in its second."""
        job_id = self.submit(**more)
        self.end(self.claim(), Ending.CRASHED, partials=2)
        self.end(self.claim(), Ending.SUCCEEDED, partials=3)
        return job_id

    # -- what map jobs do ------------------------------------------------------------------------

    def claim_map(self) -> Claimed:
        """Claim the one that is queued; a worker takes all of its items."""
        with self.store.write(durable=False) as connection:
            (claimed,) = moves.claim(
                connection,
                self.books.dispatcher_id,
                tasks=["selftest.item"],
                limit=0,
                map_limit=1,
                now=self.books.now,
            )
            maps.open_chunks(connection, [(claimed.id, 0, ITEMS)])
        return claimed

    def run_items(self, claimed: Claimed, *indexes: int) -> None:
        wish = self._wishes[claimed.id]
        with self.runs.open("a", encoding="ascii") as file:
            file.writelines(f"{wish['params']['stamp']}/{index} {claimed.attempt}\n" for index in indexes)
        told = [wishes.value(wish, claimed.attempt, index) for index in indexes]
        items = (Values(indexes[0], len(told), json.dumps(told)),)
        self.books.report(Report(claimed.id, claimed.attempt, self.books.now, items=items))

    def lose(self, claimed: Claimed) -> None:
        self.books.report(self.books.end_of(claimed, Ending.LOST))
        self.books.later(1000)

    def close(self, claimed: Claimed) -> None:
        self.books.report(Report(claimed.id, claimed.attempt, self.books.now, closed=0))

    def swept(self, **more: Any) -> int:
        """A map job that was lost after two items, and came to its end in its second attempt."""
        job_id = self.submit("item", **more)
        first = self.claim_map()
        self.run_items(first, 0, 1)
        self.lose(first)
        second = self.claim_map()
        self.run_items(second, 2)  # it may be to blame, so it runs by itself
        self.run_items(second, 3)
        self.close(second)
        return job_id

    def failed(self) -> int:
        job_id = self.submit("fail")
        self.end(self.claim(), Ending.EXCEPTION)
        return job_id

    # -- what must not be ------------------------------------------------------------------------

    def change(self, statement: str, *values: Any, rules: bool = True) -> None:
        """Change rows behind everybody's back."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute(f"PRAGMA ignore_check_constraints={'OFF' if rules else 'ON'}")
        assert connection.execute(statement, values).rowcount >= 1
        connection.close()

    def tell(self, job_id: int, kind: EventKind, data: str) -> None:
        """Append an event to a job's history as it should be done, whatever its state."""
        job = self.books.job(job_id)
        self.change(
            "INSERT INTO event (job_id, seq, kind, attempt, at, data) VALUES (?, ?, ?, ?, 0, ?)",
            *(job_id, job.version + 1, kind, job.attempt, data),
        )
        self.change("UPDATE job SET version = version + 1, partials = partials + ? WHERE id = ?",
                    kind is EventKind.PARTIAL, job_id)  # fmt: skip

    # -- the audit -------------------------------------------------------------------------------

    def findings(self) -> list[Finding]:
        record = journal.read(self._journal_path)
        with self.store.read() as connection:
            return list(audit.findings(connection, record, self.runs))

    def found(self) -> dict[Line, set[int | None]]:
        """Return whom each line names."""
        found: dict[Line, set[int | None]] = {}
        for one in self.findings():
            found.setdefault(one.line, set()).add(one.job_id)
        return found

    def end_all(self) -> None:
        self.journal.close()
        self.store.close()
