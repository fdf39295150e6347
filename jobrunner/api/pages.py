"""Pages for a browser: the index and the explanations of problems, without scripts."""

import base64
import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final

from flask import Response, render_template_string, request
from markupsafe import Markup, escape

_STYLE: Final = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; }
table { border-collapse: collapse; }
td { padding: .2rem 1.2rem .2rem 0; vertical-align: top; }
code { font-size: .95em; }
"""
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ title.replace("`", "") }}</title>
<style>{{ style }}</style>
<h1>{{ heading }}</h1>
{% for paragraph in paragraphs %}<p>{{ paragraph }}</p>
{% endfor %}
{% if rows %}<table>
{% for row in rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% endif %}
"""
_CODE: Final = re.compile("`([^`]+)`")


def wanted(*others: str) -> bool:
    """Whether the client would rather have a page than the `others`, media types in order of preference."""
    return request.accept_mimetypes.best_match([*others, "text/html"]) == "text/html"


def page(title: str, paragraphs: Sequence[str], rows: Sequence[Sequence[Any]] = ()) -> Response:
    """Return a page; what stands between backticks is code."""
    told = {
        "title": title,
        "heading": _with_code(title),
        "style": Markup(_STYLE),  # noqa: S704  # our own
        "paragraphs": [_with_code(one) for one in paragraphs],
        "rows": [[one if isinstance(one, Markup) else _with_code(str(one)) for one in row] for row in rows],
    }
    answer = Response(render_template_string(_PAGE, **told), mimetype="text/html")
    answer.headers["Content-Security-Policy"] = _POLICY
    return answer


def link(path: str, text: str) -> Markup:
    """Return a link to `path`, for a cell."""
    return Markup('<a href="{}">{}</a>').format(path, text)


def _with_code(text: str) -> Markup:
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # it is escaped


def by_accept(answer: Response) -> Response:
    """Return `answer`, marked as one of several that `Accept` chooses among."""
    answer.vary.add("Accept")
    return answer
