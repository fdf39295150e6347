"""A small process for the supervisor: writes what happens to it into a file, a line each.

usage: part.py LOG NAME obey|stubborn
"""

import os
import signal
import sys
from pathlib import Path

HEARD = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}


def main(log: Path, name: str, manner: str) -> None:
    def say(what: object) -> None:
        with log.open("a", encoding="ascii") as file:
            file.write(f"{name} {what}\n")

    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    say(os.getpid())
    while True:
        signum = signal.Signals(signal.sigwait(HEARD))
        say(signum.name)
        if signum is signal.SIGTERM and manner == "obey":
            break
    say("ends")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
