"""A store that cannot be used is told once when that begins and once when it is over, not at every attempt."""

import logging
import time

from jobrunner.errors import StoreUnavailableError


class Outage:
    """What one process knows of the present outage, if there is one."""

    def __init__(self, log: logging.Logger, quiet_seconds: float = 0.0) -> None:
        """Say it to `log`; believe that it is over when nothing has failed for `quiet_seconds`."""
        self._log = log
        self._quiet_seconds = quiet_seconds
        self._why = ""
        self._began_at = self._failed_at = 0.0

    def goes_on(self, error: StoreUnavailableError) -> None:
        """Note that the store could not be used; it is logged if it is the first time, or another reason."""
        self._failed_at = time.monotonic()
        if not self._why:
            self._began_at = self._failed_at
        if str(error) != self._why:
            self._log.warning("%s; trying again until it works", error)
        self._why = str(error)

    def may_be_over(self) -> None:
        """Note that the store could be used."""
        if self._why and time.monotonic() - self._failed_at >= self._quiet_seconds:
            seconds = self._failed_at - self._began_at
            self._log.warning("the store works again, after %.1f seconds", seconds)
            self._why = ""
