"""The application: its resources, its problems, its headers."""

from flask import Response

from jobrunner.api import events, health, history, index, jobs, problems, stats, submit, tasks, waiting
from jobrunner.api.context import Api
from jobrunner.settings import Settings


def create_app(settings: Settings) -> Api:
    """Return the API.  It opens no connection before the first request.

    Raises:
        StoreError: the setting `database_url` names no store that this version can use.
    """
    app = Api(settings)
    for resource in (index, submit, jobs, history, events, tasks, stats, health):
        app.register_blueprint(resource.routes)
    problems.register(app)
    app.after_request(waiting.with_preference)
    app.after_request(_with_common_headers)
    return app


def _with_common_headers(response: Response) -> Response:
    response.headers["X-Content-Type-Options"] = "nosniff"  # a log may look like a page to a browser
    response.headers.setdefault("Cache-Control", "no-cache")  # ask again: a job does not stand still
    return response
