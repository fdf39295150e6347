"""Requests whose answers have a shape: one method for each way to ask."""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPMethod, HTTPStatus
from typing import Any, TypeVar

from jobrunner.client.errors import BadAnswerError
from jobrunner.client.messages import Query, Request
from jobrunner.client.transport import Transport

_Shape = TypeVar("_Shape")


class Calls:
    """What clients and jobs ask by.  Each method raises as `Transport.call` does."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def get(
        self,
        path: str,
        shape: type[_Shape],
        query: Query = (),
        *,
        wait_seconds: int = 0,
        within_seconds: float = float("inf"),
    ) -> _Shape:
        """Ask; with `wait_seconds`, the answer comes when there is something to tell."""
        waiting = [("wait", wait_seconds)] if wait_seconds else []
        request = Request(
            HTTPMethod.GET,
            path,
            [*query, *waiting],
            wait_seconds=wait_seconds,
            within_seconds=within_seconds,
        )
        return checked(self.transport.call(request).json(), shape)

    def news(
        self, path: str, shape: type[_Shape], known: int, *, wait_seconds: int, within_seconds: float
    ) -> _Shape | None:
        """Wait until there is another version than the one that is `known`; None if time is up before."""
        request = Request(
            HTTPMethod.GET,
            path,
            [("wait", wait_seconds)],
            known=known,
            wait_seconds=wait_seconds,
            within_seconds=within_seconds,
        )
        answer = self.transport.call(request)
        return None if answer.status == HTTPStatus.NOT_MODIFIED else checked(answer.json(), shape)

    def text(self, path: str, query: Query = ()) -> str:
        """Ask for a text."""
        answer = self.transport.call(Request(HTTPMethod.GET, path, query))
        return answer.body.decode(errors="replace")

    def lines(self, path: str, accept: str, query: Query = ()) -> Iterator[bytes]:
        """Ask for lines; they come as they are made."""
        return self.transport.lines(Request(HTTPMethod.GET, path, query, accept=accept))

    def submit(self, path: str, body: Any, shape: type[_Shape], key: str | None = None) -> _Shape:
        """Ask for jobs, with this key or one of their own: however often it is sent, they are made once."""
        request = Request(HTTPMethod.POST, path, body=body, key=key or str(uuid.uuid4()))
        return checked(self.transport.call(request).json(), shape)

    def change(
        self,
        path: str,
        body: Mapping[str, Any],
        shape: type[_Shape],
        *,
        method: HTTPMethod = HTTPMethod.POST,
        is_repeatable: bool = False,
    ) -> _Shape:
        """Change what there is; say with `is_repeatable` that doing it twice is the same as doing it once."""
        request = Request(method, path, body=body, is_repeatable=is_repeatable)
        return checked(self.transport.call(request).json(), shape)

    def delete(self, path: str) -> None:
        """Ask for the end of what is there."""
        self.transport.call(Request(HTTPMethod.DELETE, path))


def given(**named: Any) -> list[tuple[str, Any]]:
    """Return the query of those that are not None."""
    return [(name, value) for name, value in named.items() if value is not None]


def checked(value: Any, shape: type[_Shape]) -> _Shape:
    """Return `value` as the TypedDict that it is said to be; only its keys are looked at."""
    required: frozenset[str] = shape.__required_keys__  # type: ignore[attr-defined]
    missing = required - value.keys() if isinstance(value, dict) else required
    if missing:
        raise BadAnswerError(f"the answer lacks {', '.join(sorted(missing))}: is it jobrunner's?")
    return value  # type: ignore[no-any-return]


def pairs(labels: Mapping[str, str] | None) -> Sequence[tuple[str, str]]:
    """Return the query of labels to filter by."""
    return [("label", f"{key}:{value}") for key, value in (labels or {}).items()]
