"""Every setting: its name, default, meaning and limits; and where its value comes from.

A flag wins over `JOBRUNNER_<NAME>`, which wins over `jobrunner.toml`, which wins over the default.
A value that is not allowed names itself, its source and what is allowed.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from jobrunner.durations import in_seconds
from jobrunner.errors import SettingError
from jobrunner.sizes import in_bytes

_PREFIX: Final = "JOBRUNNER_"
#: read by the command line itself
OTHER_VARIABLES: Final = frozenset({"JOBRUNNER_CONFIG", "JOBRUNNER_URL", "JOBRUNNER_TOKEN"})
_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class _Kind:
    """How a value is read and what is allowed; `read` raises ValueError or TypeError on anything else."""

    read: Callable[[Any], Any]
    allowed: str


def _whole(least: int, most: int) -> _Kind:
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str) or not least <= int(value) <= most:
            raise ValueError(value)
        return int(value)

    return _Kind(read, f"a whole number from {least} to {most}")


def _seconds(least: float, most: float) -> _Kind:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not least <= float(value) <= most:
            raise ValueError(value)
        return float(value)

    return _Kind(read, f"a number of seconds from {least:g} to {most:g}")


def _bytes(least: int) -> _Kind:
    def read(value: Any) -> int:
        count = in_bytes(value)
        if count < least:
            raise ValueError(value)
        return count

    return _Kind(read, f"a size such as 64K, 16M or 2G, at least {least} bytes")


def _read_modules(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names:
        raise ValueError(value)
    stripped = tuple(name.strip() for name in names)
    for name in stripped:
        if not _MODULE.fullmatch(name) or name.endswith(".py"):
            raise ValueError(name)
    return stripped


def _read_text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def _read_level(value: Any) -> str:
    if value not in {"debug", "info", "warning", "error"}:
        raise ValueError(value)
    return str(value)


_TEXT: Final = _Kind(_read_text, "a text that is not empty")
_LEVEL: Final = _Kind(_read_level, "one of debug, info, warning, error")
_DURATION: Final = _Kind(in_seconds, "a duration such as 90s, 12h or 7d, or forever")
_PATH: Final = _Kind(lambda value: Path(_read_text(value)).expanduser(), "a path")
_MODULES: Final = _Kind(
    _read_modules, "importable module names such as mytasks or mypackage.tasks (no .py, no path)"
)


def _setting(default: Any, kind: _Kind, doc: str) -> Any:
    """Return a dataclass field that knows its kind and its meaning."""
    return field(default=default, metadata={"kind": kind, "doc": doc})


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Settings:
    """All settings, checked."""

    data: Path = _setting(Path("jobrunner-data"), _PATH, "directory of the store")
    database_url: str = _setting("", _TEXT, "store elsewhere than in the data directory")
    tasks: tuple[str, ...] = _setting(("jobrunner.examples",), _MODULES, "modules whose tasks are served")
    workers: int = _setting(_cores(), _whole(1, 1024), "jobs that run at the same time")
    host: str = _setting("127.0.0.1", _TEXT, "address that the API listens on")
    port: int = _setting(8000, _whole(0, 65535), "port that the API listens on; 0 takes a free one")
    api_workers: int = _setting(1, _whole(1, 64), "processes of the API")
    api_threads: int = _setting(16, _whole(2, 512), "requests that one API process answers at the same time")
    max_waiting: int = _setting(
        256, _whole(0, 4096), "requests beside them that may wait, or stream, at the same time"
    )
    max_wait: float = _setting(60.0, _seconds(0, 3600), "that a request may wait for news of a job")
    grace_seconds: float = _setting(
        5.0, _seconds(0, 3600), "between SIGTERM and SIGKILL, at a timeout or a cancel"
    )
    drain_seconds: float = _setting(
        30.0, _seconds(0, 86400), "that running jobs may take to finish at a stop"
    )
    lease_seconds: float = _setting(
        15.0, _seconds(2, 3600), "without a heartbeat until a dispatcher counts as dead"
    )
    max_jobs_per_process: int = _setting(
        100_000, _whole(1, 10**9), "jobs after which a job process is replaced"
    )
    max_queued: int = _setting(1_000_000, _whole(1, 10**9), "jobs that may be queued")
    max_batch: int = _setting(10_000, _whole(1, 10**6), "jobs in one POST /jobs/batch")
    max_items: int = _setting(10_000_000, _whole(1, 10**9), "items of one map job")
    max_body_bytes: int = _setting(16 << 20, _bytes(1024), "size of a request's body")
    max_params_bytes: int = _setting(1 << 20, _bytes(16), "size of a job's parameters, as JSON")
    max_result_bytes: int = _setting(16 << 20, _bytes(16), "size of a result, as JSON")
    max_partial_bytes: int = _setting(1 << 20, _bytes(16), "size of a partial result, as JSON")
    max_partials_bytes: int = _setting(
        1 << 30, _bytes(16), "size of all partial results of one attempt, as JSON"
    )
    max_log_bytes: int = _setting(
        1 << 20, _bytes(1024), "size of an attempt's log that is kept, beside its tail"
    )
    keep_succeeded: float = _setting(7 * 86_400.0, _DURATION, "until a job that succeeded is removed")
    keep_failed: float = _setting(30 * 86_400.0, _DURATION, "until a failed or cancelled job is removed")
    log_level: str = _setting("info", _LEVEL, "how much the daemons say")

    @property
    def url(self) -> str:
        """The store's SQLAlchemy URL."""
        return self.database_url or f"sqlite:///{(self.data / 'jobrunner.db').absolute()}"


def documented() -> list[tuple[str, Any, str, str]]:
    """Return (name, default, meaning, allowed) of each setting, in order."""
    return [(f.name, f.default, f.metadata["doc"], f.metadata["kind"].allowed) for f in fields(Settings)]


def load(
    flags: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Settings:
    """Return the settings in force.

    Args:
        flags: by setting name; None means not given.
        environ: read for `JOBRUNNER_<NAME>`.
        file: a TOML file; None reads `jobrunner.toml` of the working directory if there is one.

    Raises:
        SettingError: a value is not allowed, a name is not a setting, or the file cannot be read.
    """
    known = {f.name: f.metadata["kind"] for f in fields(Settings)}
    values: dict[str, Any] = {}
    for source, given in (_from_file(file), _from_environ(environ), _from_flags(flags)):
        for name, value in given.items():
            label = source(name)
            if name not in known:
                raise SettingError(name, label, value, f"a setting: {', '.join(known)}")
            values[name] = _checked(name, value, known[name], label)
    return Settings(**values)


def _checked(name: str, value: Any, kind: _Kind, label: str) -> Any:
    try:
        return kind.read(value)
    except (
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
    ):  # RuntimeError: `~somebody` who is not there
        raise SettingError(name, label, value, kind.allowed) from None


_Source = tuple[Callable[[str], str], Mapping[str, Any]]


def _from_file(file: Path | None) -> _Source:
    path = file or Path("jobrunner.toml")
    if file is None and not path.exists():
        return str, {}
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError("config", "flag --config", str(path), f"a readable TOML file ({error})") from None
    return (lambda _: str(path)), given


def _from_environ(environ: Mapping[str, str]) -> _Source:
    given = {
        key.removeprefix(_PREFIX).lower(): value
        for key, value in environ.items()
        if key.startswith(_PREFIX) and key not in OTHER_VARIABLES
    }
    return (lambda name: f"environment {_PREFIX}{name.upper()}"), given


def _from_flags(flags: Mapping[str, Any]) -> _Source:
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    return (lambda name: f"flag --{name.replace('_', '-')}"), given
