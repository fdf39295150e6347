"""Who may: `Authorization: Bearer TOKEN`, and the scope that each endpoint takes.

While nobody has ever made a token, whoever can connect may do everything, and the server listens on this machine
alone.  Who is to be kept out then are pages of other sites, in a browser that runs here.
"""

import contextlib
import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from flask import g, request

from jobrunner.api.context import this_api
from jobrunner.api.refusals import (
    ForeignSiteError,
    InsufficientScopeError,
    InvalidTokenError,
    TokenMissingError,
)
from jobrunner.errors import StoreError
from jobrunner.store.tokens import Scope, Token

# fmt: off
NEEDED: Final[Mapping[str, Scope | None]] = {
    "health.show_alive":     None,          # what watches over a service has no token, and this tells nothing
    "health.show_ready":     None,          # the same; its details are for those who may read
    "index.list_problems":   None,          # the type of a 401 leads here
    "index.show_problem":    None,
    "index.show_index":      Scope.READ,
    "index.show_openapi":    Scope.READ,
    "jobs.list_jobs":        Scope.READ,
    "jobs.show_job":         Scope.READ,
    "history.show_result":   Scope.READ,
    "history.list_partials": Scope.READ,
    "history.show_log":      Scope.READ,
    "history.list_attempts": Scope.READ,
    "items.list_items":      Scope.READ,
    "events.stream_events":  Scope.READ,
    "tasks.list_tasks":      Scope.READ,
    "tasks.show_task":       Scope.READ,
    "queues.list_queues":    Scope.READ,
    "queues.show_queue":     Scope.READ,
    "stats.show_stats":      Scope.READ,
    "stats.show_series":     Scope.READ,
    "metrics.show_metrics":  Scope.READ,
    "submit.submit":         Scope.SUBMIT,
    "submit.submit_batch":   Scope.SUBMIT,
    "jobs.cancel_job":       Scope.SUBMIT,
    "many.list_finished":    Scope.READ,
    "many.cancel_queued":    Scope.SUBMIT,
    "jobs.retry_job":        Scope.SUBMIT,
    "jobs.delete_job":       Scope.ADMIN,
    "queues.change_queue":   Scope.ADMIN,
}  #: by endpoint; None: open to all
# fmt: on

_BEARER: Final = re.compile(r"bearer +([\w.~+/-]+=*)", re.IGNORECASE | re.ASCII)  # RFC 6750
_LOCAL_NAME: Final = re.compile(r"(?:.+\.)?localhost\.?", re.IGNORECASE)


def check() -> None:
    """Let the request at hand pass, or refuse it.

    Raises:
        TokenMissingError: it needs a token.
        InvalidTokenError: its token is not in force.
        InsufficientScopeError: its token is not good for this.
        ForeignSiteError: no token is needed, and a page of another site asks.
        StoreError: who may cannot be known.
    """
    needed = _needed()
    if needed is None:
        return
    this_api().keyring.refresh()
    token = _token()
    if token is not None and not token.scope.covers(needed):
        raise InsufficientScopeError(token.name, token.scope, needed)
    g.owner = 0 if token is None else token.id


def owner() -> int:
    """Return the id of the token that the request at hand came with; 0 if it needed none."""
    return int(g.owner)


def may_read() -> bool:
    """Whether the request at hand, to something that is open to all, may be told more than others."""
    with contextlib.suppress(StoreError):  # then it is as locked as it was
        this_api().keyring.refresh()
    try:
        _token()
    except (TokenMissingError, InvalidTokenError, ForeignSiteError, StoreError):
        return False
    return True


def lasting() -> Callable[[], bool]:
    """Return a function that says, also once the request is over, whether it might still be answered."""
    keyring = this_api().keyring
    bearer = _BEARER.fullmatch(request.headers.get("Authorization", ""))

    def lasts() -> bool:
        try:
            keyring.refresh()
            return not keyring.is_locked or bool(bearer and keyring.find(bearer[1]))
        except StoreError:  # it will be told to whoever asks for more
            return True

    return lasts


def _needed() -> Scope | None:
    if request.endpoint is None:  # there is no such path, or it does not take the method
        return None
    if request.method == "OPTIONS":
        return Scope.READ
    return NEEDED.get(request.endpoint, Scope.ADMIN)


def _token() -> Token | None:
    """Return the token of the request at hand; None if it needs none."""
    keyring = this_api().keyring
    if not keyring.is_locked:
        _refuse_other_sites()
        return None
    sent = request.headers.get("Authorization")
    if sent is None:
        raise TokenMissingError
    bearer = _BEARER.fullmatch(sent)
    token = bearer and keyring.find(bearer[1])
    if token is None:
        raise InvalidTokenError
    return token


def _refuse_other_sites() -> None:
    """Refuse what a browser sends for a page that is not ours.

    A page's `Origin` tells whose it is; but a name that its owner lets lead to 127.0.0.1 makes his pages ours,
    and then `Host` tells.
    """
    host = request.environ.get("HTTP_HOST")
    if host is not None and request.remote_addr and not _is_of_this_machine(host):
        raise ForeignSiteError(
            f"without tokens this service answers to no name but localhost, and not to {host[:100]!r}"
        )
    origin = request.environ.get("HTTP_ORIGIN")
    if origin is not None and origin.partition("://")[2] != host:
        raise ForeignSiteError(f"the request comes from a page of {origin[:100]!r}")


@lru_cache(maxsize=64)
def _is_of_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if _LOCAL_NAME.fullmatch(name):
            return True
        ipaddress.ip_address(name)
    except ValueError:  # neither a name that stays here, nor an address
        return False
    return True
