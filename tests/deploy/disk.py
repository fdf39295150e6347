"""The disk of a box, in memory: what differs from this machine's files, or from those of another disk."""

import os
import subprocess
from pathlib import Path

_MAKE = 'mount -t tmpfs -o mode=755 disk "$1"; mkdir "$1"/{upper,work,merged}; echo made; read -r _'


class Disk:
    """It is mounted on `place`, in a mount namespace of its own; `lower` are the directories that lie beneath it.

    However the tests end, it is gone with the descriptor of that namespace.
    """

    def __init__(self, place: Path, base: "Disk | None" = None) -> None:
        """Make an empty one, or one that begins as `base` is, which must not change any more."""
        place.mkdir()
        self.place = place
        self.lower: str = "/" if base is None else f"{base.place}/upper:{base.lower}"
        make = ["bash", "-euc", _MAKE, "bash", str(place)]
        command = ["unshare", "--mount", "--propagation", "private", *make]
        if base is not None:
            command = base.enter(command)
        fds = [] if base is None else [base.namespace]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=fds
        ) as maker:
            assert maker.stdout is not None
            assert maker.stdout.readline() == "made\n"
            self.namespace: int = os.open(f"/proc/{maker.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def enter(self, command: list[str]) -> list[str]:
        """Return a command that runs this one where the disk is mounted; it must be passed `namespace`."""
        return ["nsenter", f"--mount=/proc/self/fd/{self.namespace}", *command]

    def close(self) -> None:
        """Let it go."""
        os.close(self.namespace)
