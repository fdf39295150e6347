"""Where the peers live: a virtual environment of their own, for the project does not depend on them."""

import json
import os
import shutil
import socket
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final, NamedTuple

PACKAGES: Final = ("huey", "celery[redis]")
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "jobrunner-bench"


class Environment(NamedTuple):
    """Where the peers' Python is, and redis-server."""

    python: Path
    redis: str

    def versions(self) -> dict[str, str]:
        """Return the versions of all that takes part."""
        listed = _output(self.python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check")
        found: list[dict[str, Any]] = json.loads(listed)
        kept = {
            one["name"]: one["version"]
            for one in found
            if one["name"] in {"huey", "celery", "redis", "kombu"}
        }
        kept["redis (client)"] = kept.pop("redis")
        return kept | {"redis-server": _output(self.redis, "--version").split("v=")[1].split()[0]}


def made(directory: Path | None) -> Environment:
    """Return the environment in `directory`, which is made if it is not there; None: in the user's cache.

    Raises:
        SystemExit: there is no redis-server, which is no Python package.
    """
    redis = shutil.which("redis-server")
    if redis is None:
        raise SystemExit(
            "redis-server is not on the PATH: apt-get install redis-server, or leave celery out by --only"
        )
    directory = directory or CACHE / f"peers-{sys.version_info.major}.{sys.version_info.minor}"
    python = directory / "bin" / "python"
    if not (directory / "bin" / "celery").exists():
        print(f"the peers are installed in {directory}", file=sys.stderr, flush=True)
        venv.create(directory, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return Environment(python, redis)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
