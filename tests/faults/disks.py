"""Disks that fail when a test says so."""

import errno
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar


class Disk(ABC):
    """Where a data directory lies.

    Attributes:
        data: the data directory.
        before: what stands before the command of a process that is to use it.
        environ: what such a process has in its environment.
        why: what is said while it fails.
    """

    data: Path
    before: Sequence[str] = ()
    environ: Mapping[str, str] = {}
    why: ClassVar[str]

    @abstractmethod
    def fail(self) -> None:
        """From now on nothing can be written to it."""

    @abstractmethod
    def mend(self) -> None:
        """It works again."""


class SmallDisk(Disk):
    """A file system of a few megabytes, mounted where nobody else sees it, which fills up."""

    why = "database or disk is full"

    def __init__(self, place: Path, megabytes: int = 8) -> None:
        place.mkdir()
        self.data = place / "data"
        self._place = place
        self._ballast = place / "ballast"
        mount = 'mount -t tmpfs -o size="$2"m tmpfs "$1" && echo mounted && exec sleep infinity'
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", mount, "sh", place, str(megabytes)], stdout=subprocess.PIPE
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"mounted\n"
        self.before = ["nsenter", "--target", str(self._keeper.pid), "--mount"]

    def fail(self) -> None:
        fill = ["dd", "if=/dev/zero", f"of={self._ballast}", "bs=64K", "status=none"]
        done = subprocess.run([*self.before, *fill], capture_output=True, text=True, check=False)
        assert "No space left" in done.stderr, done.stderr

    def mend(self) -> None:
        subprocess.run([*self.before, "rm", self._ballast], check=True)

    def remount(self, how: str) -> None:
        """Mount it `ro` or `rw`; the first is possible only while nobody has a file open to write."""
        subprocess.run([*self.before, "mount", "-o", f"remount,{how}", self._place], check=True)

    def close(self) -> None:
        assert self._keeper.stdout is not None
        self._keeper.stdout.close()
        self._keeper.kill()
        self._keeper.wait()


class FailingDisk(Disk):
    """A library in the place of the disk, see `disk.c`.  It fails as one that has become read-only.

    Attributes:
        synced: the directory of what would be left of the store after a power cut.
    """

    why = "disk I/O error (SQLITE_IOERR_WRITE)"

    def __init__(self, library: Path, place: Path, data: Path) -> None:
        self.data = data
        self.synced = place / "synced"
        self.synced.mkdir(parents=True)
        self._place = place
        self.environ = {"LD_PRELOAD": str(library), "DISK": str(place)}

    def fail(self) -> None:
        self._fail("write", errno.EROFS)

    def fail_to_sync(self) -> None:
        """From now on it takes what is written, and cannot say that it will last."""
        self._fail("sync", errno.EIO)

    def _fail(self, call: str, number: int) -> None:
        part = self._place / "part"
        part.write_text(str(number), encoding="ascii")
        part.rename(self._place / call)

    def mend(self) -> None:
        for call in ("write", "sync"):
            (self._place / call).unlink(missing_ok=True)
