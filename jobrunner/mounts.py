"""What is mounted where, as the kernel tells it."""

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

_ESCAPED: Final = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """What is mounted at `point`: of its file system what lies under `root`.

    The options are those of the mount and of its file system.
    """

    root: Path
    point: Path
    kind: str
    options: frozenset[str]


def read(mountinfo: str) -> list[Mount]:
    """Return what /proc/self/mountinfo tells (see proc_pid_mountinfo(5)), in its order."""
    found = []
    for line in filter(None, mountinfo.split("\n")):  # a name may hold what else ends a line to Python
        here, _, there = line.partition(" - ")
        root, point, options = here.split(" ")[3:6]
        kind, _, more = (*there.split(" "), "")[:3]
        flags = frozenset(f"{options},{more}".split(","))
        found.append(Mount(Path(_unescaped(root)), Path(_unescaped(point)), kind, flags))
    return found


def _unescaped(text: str) -> str:
    # Bytes, as the kernel writes them: a name need not be UTF-8.
    raw = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), os.fsencode(text).decode("latin-1"))
    return os.fsdecode(raw.encode("latin-1"))


def mountinfo(proc: Path = Path("/proc/self")) -> str:
    """Return the text that `read` takes; a name in it need not be UTF-8."""
    return os.fsdecode((proc / "mountinfo").read_bytes())
