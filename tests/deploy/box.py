"""A throw-away machine with a systemd of its own: namespaces over an overlay of this one's files.

Units are installed, started, killed and removed in it for real, as root, and nothing of it is left.  It can be
turned off, in order or not, and booted again from the same disk.
"""

import contextlib
import ctypes
import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.deploy import cgroups
from tests.deploy.disk import Disk
from tests.waiting import eventually

_INIT: Final = Path(__file__).with_name("box.sh")
_TOOLS: Final = (
    "unshare",
    "nsenter",
    "setpriv",
    "systemctl",
    "systemd-sysusers",
    "runuser",
    "curl",
    "ip",
    "ldconfig",
    "ps",
)
_NAMESPACES: Final = ("--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup")
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_PATH: Final = "/opt/box/python/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str:
    """Return what keeps this machine from having a box; an empty text if nothing does."""
    if os.geteuid() != 0:
        return "only root can boot a systemd in namespaces"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent or not Path("/lib/systemd/systemd").exists():
        return f"not installed: {', '.join(absent) or 'systemd'}"
    if "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        return "this kernel has no overlayfs"
    if cgroups.own("") is None:
        return "no cgroup (version 2) can be made here"
    tried = subprocess.run(
        ["unshare", "--fork", *_NAMESPACES, "true"], capture_output=True, text=True, check=False
    )
    return f"no namespaces can be made here: {tried.stderr.strip()}" if tried.returncode else ""


def missing_for_limits() -> str:
    """Return what keeps this machine from having a box with limits; an empty text if nothing does."""
    absent = [name for name in cgroups.VERSION_1 if cgroups.own(name) is None]
    return f"no cgroup (version 1) can be made here: {', '.join(absent)}" if absent else ""


class Box:
    """A machine that was booted.  Its `share` is its /run/share."""

    def __init__(self, directory: Path, *, base: "Box | None" = None, with_limits: bool = False) -> None:
        """Make it and boot; that takes half a second.

        Args:
            directory: an empty one, for what it leaves.
            base: one that is turned off, and stays so: begin with what is on its disk.
            with_limits: whether limits such as MemoryMax hold in it, see `missing_for_limits`.
        """
        self.share = directory / "share"
        self._directory = directory
        self._console = directory / "console.log"
        self._hierarchies = cgroups.VERSION_1 if with_limits else cgroups.VERSION_2
        self._bind(directory / "bind")
        self.share.mkdir()
        self._disk: Disk = Disk(directory / "root", base._disk if base else None)
        try:
            self.boot()
            if base is None:
                self._provide_python()
        except BaseException:
            self.close()
            raise

    def boot(self) -> None:
        """Turn it on."""
        self._cgroups = cgroups.make(self._hierarchies, f"{self._directory.name}-{os.getpid()}")
        with self._console.open("ab") as console:
            self._unshare = subprocess.Popen(
                self._boot_command(),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                pass_fds=[self._disk.namespace],
            )
        self._pid = eventually(self._systemd, seconds=60)
        eventually(self._is_up, seconds=60)

    def power_off(self) -> None:
        """Turn it off in order, as before a reboot."""
        self.start("systemctl poweroff").wait()
        self._unshare.wait(60)
        self._bury()

    def cut_power(self) -> None:
        """Turn it off with no order at all: with its first process everything in it dies."""
        self._unshare.kill()
        self._unshare.wait()
        self._bury()

    def run(self, script: str, *, seconds: float = 60) -> str:
        """Run a shell script as root until its first failure; return what it printed.  A timeout is exit status 124."""
        command = [*self._enter(), "timeout", f"{seconds:g}", "bash", "-euo", "pipefail", "-c", script]
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{script}\nexit status {ran.returncode}:\n{ran.stdout}\n{self.journal()}"
        return ran.stdout

    def start(self, script: str) -> "subprocess.Popen[bytes]":
        """Start a shell script as root, and do not wait for it."""
        return subprocess.Popen([*self._enter(), "bash", "-euc", script], stdin=subprocess.DEVNULL)

    def connect(self, port: int) -> socket.socket:
        """Return a connection to a port of its loopback."""

        def inside() -> socket.socket:  # in a thread of its own, which does not come back
            with Path(f"/proc/{self._pid}/ns/net").open("rb") as network:
                if _libc.setns(network.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")
            return socket.create_connection(("127.0.0.1", port), timeout=30)

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(inside).result()

    @property
    def root(self) -> Path:
        """Where its files are found from outside."""
        return Path(f"/proc/{self._pid}/root")

    def show(self, unit: str, name: str) -> str:
        """Return a unit's property, as `systemctl show` has it."""
        return self.run(f"systemctl show --value -p {name} {unit}").strip()

    def journal(self) -> str:
        """Return the end of the journal."""
        command = [*self._enter(), "journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def close(self) -> None:
        """Turn it off for good; every mount of it is gone."""
        self.cut_power()
        self._disk.close()

    # -- booting -----------------------------------------------------------------------------------

    def _bind(self, directory: Path) -> None:
        # The interpreter may be somebody's own, in a home directory that a service must not see.
        directory.mkdir()
        (directory / "python").symlink_to(sys.base_prefix)
        (directory / "packages").symlink_to(sysconfig.get_path("purelib"))

    def _boot_command(self) -> list[str]:
        join = "".join(f"echo $$ >{shlex.quote(str(place))}/cgroup.procs; " for place in self._cgroups)
        # If the tests are killed, the box goes with them.
        guard = ["setpriv", "--pdeathsig", "KILL"]
        unshare = ["unshare", "--fork", "--kill-child=KILL", "--propagation", "private", *_NAMESPACES]
        controllers = [name.removeprefix("name=") for name in self._hierarchies if name]
        init = ["bash", str(_INIT), str(self._directory), self._disk.lower, *controllers]
        return ["bash", "-euc", f"{join}exec {shlex.join([*guard, *self._disk.enter([*unshare, *init])])}"]

    def _systemd(self) -> int:
        """Return the pid of its first process once that has become systemd; 0 before."""
        assert self._unshare.poll() is None, self._console.read_text(encoding="utf-8")
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        for pid in children.read_text(encoding="ascii").split():
            with contextlib.suppress(FileNotFoundError):  # it has just died: the next look says why
                if Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "systemd\n":
                    return int(pid)
        return 0

    def _is_up(self) -> bool:
        command = [*self._enter(), "systemctl", "is-active", "basic.target"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _enter(self) -> list[str]:
        into = ["nsenter", "-t", str(self._pid), *("-p", "-m", "-u", "-i", "-n", "-C")]
        environ = ("container=box", "LANG=C.UTF-8", "SYSTEMD_COLORS=0", "PIP_NO_INDEX=1", f"PATH={_PATH}")
        return [*into, "env", "-i", *environ]

    def _provide_python(self) -> None:
        """Offer the interpreter that runs these tests, and what it has installed but jobrunner itself."""
        self.run(
            "echo /opt/box/python/lib >/etc/ld.so.conf.d/box.conf; ldconfig; "
            "mkdir /opt/box/shelf; ln -s /opt/box/packages/* /opt/box/shelf; rm /opt/box/shelf/*jobrunner*"
        )

    def _bury(self) -> None:
        eventually(lambda: cgroups.remove(self._cgroups), seconds=60)
