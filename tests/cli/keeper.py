"""A process that does nothing but supervise what a JSON file lists.

usage: keeper.py FILE, which holds {"parts": [...], "stop_seconds": 5}
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from jobrunner.cli.supervisor import Part, Supervisor


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(told: dict[str, Any]) -> int:
    parts = [
        Part(
            one["name"],
            one["command"],
            dict(os.environ),
            stop_signals=tuple(signal.Signals[name] for name in one["stop_signals"]),
            takes_hangup=one["takes_hangup"],
        )
        for one in told["parts"]
    ]
    supervisor = Supervisor(
        parts,
        missing=lambda: "" if Path(told["log"]).exists() else "a first word",
        announce=lambda: say("ready"),
        say=say,
        stop_seconds=told["stop_seconds"],
    )
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
