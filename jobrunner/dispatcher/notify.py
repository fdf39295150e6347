"""Telling systemd how the dispatcher is: sd_notify(3)."""

import logging
import os
import socket

log = logging.getLogger("jobrunner.dispatcher")


def notify(state: str) -> bool:
    """Send lines such as `READY=1` to the service manager; return whether there is one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.connect(address)
            manager.sendall(state.encode())
    except OSError as error:  # jobs must not die because nobody listens
        log.warning("the service manager cannot be told %r: %s", state, error)
    return True
