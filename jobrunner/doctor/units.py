"""The dispatcher's unit: what systemd would do to jobs at a stop, at a crash, when memory runs out."""

import math
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobrunner.dispatcher.pool import CLOSE_SECONDS, WRITER_SECONDS
from jobrunner.doctor.findings import Said, Told, ok, serious, warning
from jobrunner.errors import SettingError
from jobrunner.settings import Settings, load

DEFAULT: Final = "jobrunner-dispatcher.service"  #: the unit that `deploy/` installs
ASK_SECONDS: Final = 5.0
WATCHDOG_SECONDS: Final = 10.0  #: a loop that waits for a busy store and a slow disk is not hung yet
_BOOTED: Final = Path("/run/systemd/system")  # as sd_booted(3) has it
_PROPERTIES: Final = (
    *("LoadState", "LoadError", "Type", "Restart", "KillMode", "OOMPolicy", "TimeoutStopUSec"),
    *("WatchdogUSec", "User", "WorkingDirectory", "Environment", "ExecStart"),
)
_SPAN: Final = re.compile(r"([0-9.]+)(us|ms|s|min|h|d|w|month|y)\b")
_SMALL: Final = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600}
_SECONDS: Final = _SMALL | {"d": 86_400, "w": 604_800, "month": 2_629_800, "y": 31_557_600}
_FLAG: Final = re.compile(r"--([a-z-]+)[= ](\S+)")


@dataclass(frozen=True)
class Unit:
    """A unit as systemd has it loaded.

    Attributes:
        properties: as `systemctl show` prints them; empty if there is no such unit.
        fault: why systemd could not be asked; empty if it could, or if there is none to ask.
    """

    name: str
    properties: Mapping[str, str]
    fault: str = ""

    @property
    def is_loaded(self) -> bool:
        """Whether systemd could start it."""
        return self.properties.get("LoadState") == "loaded"

    @property
    def user(self) -> str:
        """Whom it runs as."""
        return self.properties.get("User") or "root"

    @property
    def directory(self) -> Path:
        """Where it runs."""
        return Path(self.properties.get("WorkingDirectory", "").lstrip("!-") or "/")

    @property
    def environ(self) -> dict[str, str]:
        """What it adds to the environment."""
        words = shlex.split(self.properties.get("Environment", ""))
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    @property
    def command(self) -> str:
        """What it starts."""
        return self.properties.get("ExecStart", "").partition("argv[]=")[2].partition(" ;")[0]

    @property
    def is_supervised(self) -> bool:
        """Whether `jobrunner serve` stands between systemd and the dispatcher: systemd hears nothing of its loop."""
        return "serve" in self.command.split()

    def settings(self) -> Settings:
        """Return the settings that it runs with.

        Raises:
            SettingError: they are wrong.
        """
        flags: dict[str, str] = {}
        for flag, value in _FLAG.findall(self.command):
            name = flag.replace("-", "_")
            flags[name] = f"{flags[name]},{value}" if name == "tasks" and name in flags else value
        environ = self.environ
        named = flags.pop("config", None) or environ.get("JOBRUNNER_CONFIG")
        file = self.directory / (named or "jobrunner.toml")
        return load(flags, environ, file if named or file.exists() else Path(os.devnull))

    def serves(self, store: Path) -> bool:
        """Whether it works on the store of this path.

        Raises:
            SettingError: its settings are wrong.
        """
        if not self.is_loaded:
            return False
        given = self.settings()
        own = (
            Path(given.url.removeprefix("sqlite:///")) if given.database_url else given.data / "jobrunner.db"
        )
        return (self.directory / own).resolve() == store.resolve()


def ask(name: str) -> Unit:
    """Ask the running systemd, if there is one."""
    if not _BOOTED.is_dir():
        return Unit(name, {})
    command = ["systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", name]
    try:
        shown = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        return Unit(name, {})
    except subprocess.TimeoutExpired:
        return Unit(name, {}, f"it did not answer within {ASK_SECONDS:g} s")
    if shown.returncode != 0:
        return Unit(name, {}, " ".join(shown.stderr.split()))
    return parsed(name, shown.stdout)


def parsed(name: str, shown: str) -> Unit:
    """Read what `systemctl show` printed."""
    properties = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return Unit(name, {} if properties.get("LoadState") == "not-found" else properties)


def judged(unit: Unit, settings: Settings) -> Told:
    """Judge a unit that runs with these settings; say nothing of what is right."""
    watched = () if unit.is_supervised else _unwatched(unit.properties)
    for grade, line, why in (*_at_a_stop(unit.properties, settings), *_at_a_fault(unit.properties), *watched):
        yield grade(f"{unit.name} has {why}; write {line} under [Service] by `systemctl edit {unit.name}`")


#: how bad it is, the line that mends it, what is wrong
_Fault = tuple[Callable[[str], Said], str, str]


def _at_a_stop(given: Mapping[str, str], settings: Settings) -> Iterator[_Fault]:
    mode, limit = given.get("KillMode", ""), given.get("TimeoutStopUSec", "")
    if mode != "mixed":
        does = _KILL_MODES.get(mode, "which is not what a drain needs")
        yield serious, "KillMode=mixed", f"KillMode={mode}, {does}"
    needed = settings.drain_seconds + settings.grace_seconds + CLOSE_SECONDS + WRITER_SECONDS
    if seconds(limit) <= needed:
        said = f"a drain may take {needed:g} s: jobs that could finish are killed"
        yield (
            serious,
            f"TimeoutStopSec={math.ceil((needed + 1) / 10) * 10}",
            f"TimeoutStopSec={limit}, but {said}",
        )


_KILL_MODES: Final = {
    "control-group": "by which a stop ends the jobs that could finish",
    "process": "by which a stop leaves behind what the dispatcher has started",
    "none": "by which a stop stops nothing",
}


def _at_a_fault(given: Mapping[str, str]) -> Iterator[_Fault]:
    policy, restart = given.get("OOMPolicy", ""), given.get("Restart", "")
    if policy != "continue":
        does = "ends all" if policy == "kill" else "stops the service"
        yield (
            serious,
            "OOMPolicy=continue",
            f"OOMPolicy={policy}, by which one job that is out of memory {does}",
        )
    if restart != "always":
        grade = warning if restart == "on-failure" else serious
        yield grade, "Restart=always", f"Restart={restart}, by which a dispatcher that ends may stay away"


def _unwatched(given: Mapping[str, str]) -> Iterator[_Fault]:
    kind, watchdog = given.get("Type", ""), seconds(given.get("WatchdogUSec", "0"))
    if kind not in {"notify", "notify-reload"}:
        yield warning, "Type=notify", f"Type={kind}, by which it counts as started before jobs can run"
    if watchdog in {0, math.inf}:
        yield warning, "WatchdogSec=30", "no WatchdogSec: nobody would notice a loop that hangs"
    elif watchdog < WATCHDOG_SECONDS:
        yield warning, "WatchdogSec=30", f"WatchdogSec={watchdog:g}, by which a slow disk is taken for a hang"


def seconds(span: str) -> float:
    """Return the seconds of a time span as systemd prints it: `1min 30s`, `infinity`.

    Raises:
        ValueError: it is none.
    """
    if span == "infinity":
        return math.inf
    parts = _SPAN.findall(span)
    if not parts and span != "0":
        raise ValueError(f"systemd says {span!r} where it should name a time span")
    return sum(float(count) * _SECONDS[unit] for count, unit in parts)


def told(unit: Unit, *, serves: bool) -> Told:
    """Say whether jobs are safe from the unit.

    Raises:
        ValueError: systemd answers in words that are not known here.
    """
    if unit.fault:
        yield warning(f"systemd does not tell of {unit.name}: {unit.fault}; run this as root")
        return
    if not unit.properties:
        yield ok(f"there is no {unit.name}: no dispatcher of this machine is run by systemd")
        return
    if not unit.is_loaded:
        why = unit.properties.get("LoadError", "").partition(" ")[2].strip('"')
        yield serious(f"{unit.name} cannot be started: {why} systemctl cat {unit.name}")
        return
    try:
        settings = unit.settings()
    except SettingError as error:
        yield serious(f"{unit.name} cannot start: {error}")
        return
    found = list(judged(unit, settings))
    elsewhere = "" if serves else f"; it works on another store: {settings.url}"
    yield from found or [ok(f"{unit.name} drains at a stop, and starts again after a crash{elsewhere}")]
