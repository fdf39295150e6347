"""The cgroup that a box lives in: a child of the tests' own, in each hierarchy that its systemd uses."""

import os
from pathlib import Path
from typing import Final

VERSION_2: Final = ("",)  #: as machines have it today; often without a controller for the likes of us
VERSION_1: Final = ("name=systemd", "memory", "pids")  #: where limits hold also in a box

_MOUNTED: Final = Path("/sys/fs/cgroup")


def own(hierarchy: str) -> Path | None:
    """Return the directory of this process's cgroup; None if there is none, or it cannot have children."""
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        _, names, path = line.split(":", 2)
        if hierarchy in names.split(","):
            # Version 2 is mounted alone, or beside version 1.
            for name in ("", "unified") if hierarchy == "" else (names.removeprefix("name="),):
                place = _MOUNTED / name / path.lstrip("/")
                if (place / "cgroup.procs").exists() and os.access(place, os.W_OK):
                    return place
    return None


def make(hierarchies: tuple[str, ...], name: str) -> list[Path]:
    """Make a cgroup of this name in each hierarchy."""
    made: list[Path] = []
    for hierarchy in hierarchies:
        parent = own(hierarchy)
        assert parent is not None
        (parent / name).mkdir()
        made.append(parent / name)
    return made


def remove(cgroups: list[Path]) -> bool:
    """Remove them with all that is below; return whether that could be done already."""
    for cgroup in cgroups:
        for place, _, _ in os.walk(cgroup, topdown=False):
            try:
                Path(place).rmdir()
            except OSError:  # what lived in it is still being buried
                return False
    return True
