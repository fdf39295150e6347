"""Sees to it that a selftest which is killed leaves nothing running: `python -m jobrunner.selftest.guardian MARK`.

Its standard input is a pipe from the selftest, and ends with it.  Then all that carries the mark is killed: what was
stopped would hear nothing milder.
"""

import signal
import sys
import time

from jobrunner.selftest import members

PAUSE_SECONDS = 0.05  #: between two looks at what is left


def main(mark: str) -> None:
    """Wait for the selftest to end, then kill what it has left."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # it outlives its selftest, if only for a moment
    sys.stdin.buffer.read()
    while left := members.find(mark):
        for member in left:
            members.send(member, signal.SIGKILL, mark)
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
