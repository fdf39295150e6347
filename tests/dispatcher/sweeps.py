"""Map jobs whose items say when they run; see `modules/map_faults.py`."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from jobrunner.store import maps
from jobrunner.store.jobs import Job, NewMap
from jobrunner.store.tables import item
from tests.dispatcher.running import World
from tests.store.books import audit


@dataclass
class Sweep:
    """A map job whose items say when they run."""

    world: World
    id: int
    directory: Path

    @property
    def job(self) -> Job:
        return self.world.job(self.id)

    def finished(self) -> Job:
        job = self.world.finished(self.id, 60)
        with self.world.store.read() as connection:
            audit(connection)
        return job

    def runs(self, since: int = 0) -> Counter[int]:
        """How often each item has begun, since the file of runs was so long."""
        return Counter(int(line) for line in self._noted(since) if line.isdigit())

    def reduces(self) -> list[int]:
        """The pids of the processes in which the reduce task has begun."""
        return [int(line.split()[1]) for line in self._noted(0) if line.startswith(b"reduce ")]

    def _noted(self, since: int) -> list[bytes]:
        path = self.directory / "runs"
        return path.read_bytes()[since:].split(b"\n") if path.exists() else []

    @property
    def noted_bytes(self) -> int:
        path = self.directory / "runs"
        return path.stat().st_size if path.exists() else 0

    def values(self) -> dict[int, Any]:
        """What is recorded, by item; each is there once."""
        found: list[tuple[int, Any]] = []
        with self.world.store.read() as connection:
            following = 0
            while rows := maps.values_from(connection, self.id, following):
                for first, count, data in rows:
                    told = json.loads(data)
                    assert len(told) == count
                    found += enumerate(told, first)
                    following = first + count
        assert len(dict(found)) == len(found)
        return dict(found)

    def failures(self) -> dict[int, str]:
        """Of the items that have failed for good: the kinds of their errors."""
        failed = select(item.c.number, item.c.error).where(item.c.job_id == self.id, item.c.state == "failed")
        with self.world.store.read() as connection:
            return {row.number: json.loads(row.error)["kind"] for row in connection.execute(failed)}

    def charged(self) -> Counter[int]:
        """What items have spent of their crash budgets, of those that are to be tried again."""
        tried = select(item.c.number, item.c.crash_retries_used).where(item.c.job_id == self.id)
        with self.world.store.read() as connection:
            return Counter(dict(map(tuple, connection.execute(tried))))

    def in_hand(self) -> set[int]:
        with self.world.store.read() as connection:
            return {number for chunk in maps.chunks_in_hand(connection, self.id) for number in chunk}

    def has_begun(self, *numbers: int, times: int = 1) -> Callable[[], bool]:
        return lambda: all(self.runs()[number] >= times for number in numbers)

    def go(self, *numbers: int) -> None:
        for name in [f"{number}.go" for number in numbers] or ["go"]:
            (self.directory / name).touch()


def sweep(world: World, directory: Path, task: str, count: int, **more: Any) -> Sweep:
    of_map = {name: more.pop(name) for name in NewMap.__slots__ if name in more}
    new = NewMap(json.dumps({"n": {"range": [0, count]}}), count, **of_map)
    directory.mkdir(exist_ok=True)
    params = {"directory": str(directory)} | more.pop("params", {})
    (job_id,) = world.submit(f"map_faults.{task}", params=params, map=new, **more)
    return Sweep(world, job_id, directory)
