"""The application as its views see it: the settings, the store, the way to wake a dispatcher."""

from typing import cast

from flask import Flask, current_app
from werkzeug.routing import BaseConverter

from jobrunner.api.intake import Intake
from jobrunner.api.keyring import Keyring
from jobrunner.api.watcher import Watcher
from jobrunner.settings import Settings
from jobrunner.store import migrations
from jobrunner.store.engine import Store
from jobrunner.store.lookout import Lookout
from jobrunner.wakeup import DISPATCHERS, WATCHERS, wake


class Api(Flask):
    """The Flask application.  It connects to nothing before the first request, so it may be forked."""

    def __init__(self, settings: Settings) -> None:
        super().__init__("jobrunner.api", static_folder=None, template_folder=None)
        self.settings = settings
        self.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes + 1  # what is cut there was too large
        self.url_map.converters["job_id"] = _JobId
        self.url_map.strict_slashes = False
        self.url_map.merge_slashes = False  # it would answer with a redirect, as a page of HTML
        self._store = Store(settings.url)
        self.keyring = Keyring(lambda: self.store)
        self.watcher = Watcher(
            lambda: Lookout(lambda: self.store), settings.data / WATCHERS, places=settings.max_waiting
        )
        # Whoever waits, waits for a job that is there already.
        self.intake = Intake(lambda: self.store, self.ring_dispatchers, max_queued=settings.max_queued)
        self._has_right_schema = False

    @property
    def store(self) -> Store:
        """The store, once its schema has been seen to be right.

        Raises:
            SchemaVersionError: it is not; the message names the remedy.
        """
        if not self._has_right_schema:
            migrations.check(self._store)
            self._has_right_schema = True
        return self._store

    def ring(self) -> None:
        """Have the dispatchers, and all who wait for news, look at once for what has just been committed."""
        self.ring_dispatchers()
        wake(self.settings.data / WATCHERS)

    def ring_dispatchers(self) -> None:
        """Have the dispatchers look at once for what has just been committed."""
        wake(self.settings.data / DISPATCHERS)


class _JobId(BaseConverter):
    """A whole number from 1 that the store can hold; it will never have counted up to 19 digits."""

    regex = "[1-9][0-9]{0,17}"

    def to_python(self, value: str) -> int:
        return int(value)


def this_api() -> Api:
    """Return the application that answers the request at hand."""
    # Not the proxy, which a stream could not use once its request is over.
    return cast(Api, current_app._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001
