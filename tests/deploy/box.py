"""A throw-away machine with a systemd of its own: namespaces over an overlay of this one's files.

Units are installed, started, killed and removed in it for real, as root, and nothing of it is left.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

from tests.waiting import eventually

_INIT: Final = Path(__file__).with_name("box.sh")
_CGROUPS: Final = Path("/sys/fs/cgroup")
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
)
_NAMESPACES: Final = ("--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup")
_PATH: Final = "/opt/box/python/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing() -> str:
    """Return what keeps this machine from having a box; an empty text if nothing does."""
    if os.geteuid() != 0:
        return "only root can boot a systemd in namespaces"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if absent or not Path("/lib/systemd/systemd").exists():
        return f"not installed: {', '.join(absent) or 'systemd'}"
    if "overlay" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        return "this kernel has no overlayfs"
    if _own_cgroup() is None:
        return "no cgroup (version 2) can be made here"
    tried = subprocess.run(
        ["unshare", "--fork", *_NAMESPACES, "true"], capture_output=True, text=True, check=False
    )
    return f"no namespaces can be made here: {tried.stderr.strip()}" if tried.returncode else ""


def _own_cgroup() -> Path | None:
    """Return the directory of this process's cgroup, in the hierarchy that systemd wants."""
    for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines():
        if line.startswith("0::"):
            for place in (_CGROUPS, _CGROUPS / "unified"):  # all of version 2; or version 1 beside it
                own = place / line.removeprefix("0::").lstrip("/")
                if (own / "cgroup.procs").exists() and os.access(own, os.W_OK):
                    return own
    return None


class Box:
    """A machine that was booted.  Its `share` is its /run/share."""

    def __init__(self, directory: Path) -> None:
        """Boot; it takes half a second."""
        self.share = directory / "share"
        self._console = directory / "console.log"
        self._bind(directory / "bind")
        self.share.mkdir()
        cgroup = _own_cgroup()
        assert cgroup is not None
        self._cgroup = cgroup / f"{directory.name}-{os.getpid()}"
        self._cgroup.mkdir()
        with self._console.open("wb") as console:
            self._unshare = subprocess.Popen(
                self._boot_command(directory),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        try:
            self._pid = eventually(self._systemd, seconds=20)
            eventually(self._is_up, seconds=20)
            self._provide_python()
        except BaseException:
            self.close()
            raise

    def run(self, script: str, *, seconds: float = 60) -> str:
        """Run a shell script as root until its first failure; return what it printed."""
        command = [*self._enter(), "bash", "-euo", "pipefail", "-c", script]
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert ran.returncode == 0, f"{script}\nexit status {ran.returncode}:\n{ran.stdout}\n{self.journal()}"
        return ran.stdout

    def start(self, script: str) -> "subprocess.Popen[bytes]":
        """Start a shell script as root, and do not wait for it."""
        return subprocess.Popen([*self._enter(), "bash", "-euc", script], stdin=subprocess.DEVNULL)

    def show(self, unit: str, name: str) -> str:
        """Return a unit's property, as `systemctl show` has it."""
        return self.run(f"systemctl show --value -p {name} {unit}").strip()

    def journal(self) -> str:
        """Return the end of the journal."""
        command = [*self._enter(), "journalctl", "--no-pager", "-n", "60", "-o", "short-monotonic"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def close(self) -> None:
        """Turn it off.  With its first process everything in it dies, and every mount of it is gone."""
        self._unshare.kill()
        self._unshare.wait()
        eventually(lambda: not (self._cgroup / "cgroup.procs").exists() or self._remove_cgroups())

    # -- booting -----------------------------------------------------------------------------------

    def _bind(self, directory: Path) -> None:
        # The interpreter may be somebody's own, in a home directory that a service must not see.
        directory.mkdir()
        (directory / "python").symlink_to(sys.base_prefix)
        (directory / "packages").symlink_to(sysconfig.get_path("purelib"))

    def _boot_command(self, directory: Path) -> list[str]:
        unshare = ["unshare", "--fork", "--kill-child=KILL", "--propagation", "private", *_NAMESPACES]
        join = f"echo $$ >{shlex.quote(str(self._cgroup))}/cgroup.procs"
        # If the tests are killed, the box goes with them.
        boot = shlex.join(["setpriv", "--pdeathsig", "KILL", *unshare, "bash", str(_INIT), str(directory)])
        return ["bash", "-euc", f"{join}; exec {boot}"]

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

    def _remove_cgroups(self) -> bool:
        for place, _, _ in os.walk(self._cgroup, topdown=False):
            try:
                Path(place).rmdir()
            except OSError:  # what lived in it is still being buried
                return False
        return True
