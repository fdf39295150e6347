"""The application: its resources, its problems, its headers."""

from flask import Response

from jobrunner.api import (
    auth,
    events,
    health,
    history,
    index,
    items,
    jobs,
    many,
    metrics,
    problems,
    queues,
    stats,
    submit,
    tasks,
    waiting,
)
from jobrunner.api.context import Api
from jobrunner.settings import Settings


def create_app(settings: Settings, *, needs_token: bool = False) -> Api:
    """Return the API.  It opens no connection before the first request.

    Args:
        settings: all settings.
        needs_token: every request needs a token, whatever the store says of tokens.

    Raises:
        StoreError: the setting `database_url` names no store that this version can use.
    """
    app = Api(settings)
    for resource in (
        index,
        submit,
        jobs,
        many,
        history,
        items,
        events,
        tasks,
        queues,
        stats,
        metrics,
        health,
    ):
        app.register_blueprint(resource.routes)
    problems.register(app)
    app.before_request(auth.check)
    if needs_token:
        app.keyring.lock()
    app.after_request(waiting.with_preference)
    app.after_request(_with_common_headers)
    return app


def _with_common_headers(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"  # a log may look like a page to a browser
    response.headers.setdefault("Cache-Control", "no-cache")  # ask again: a job does not stand still
    return response
