"""Tells systemd how the agent is doing: the datagram protocol of sd_notify(3), in plain sockets."""

import os
import socket
from collections.abc import Callable, Mapping

Notify = Callable[[str], None]
"""``state -> None``; a state is one or more lines such as ``READY=1``."""


def notifier(environ: Mapping[str, str]) -> Notify:
    """Return a function that sends a state to systemd; without ``NOTIFY_SOCKET`` it does nothing.

    A notification that cannot be delivered is dropped: systemd itself notices a missing one.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return lambda _state: None
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]

    def send(state: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(state.encode(), address)
            except OSError:
                return

    return send


def watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return how often to report being alive: half of what systemd asks for; ``None`` without a watchdog."""
    period = environ.get("WATCHDOG_USEC", "")
    meant_for = environ.get("WATCHDOG_PID", str(os.getpid()))
    if not period.isdecimal() or int(period) == 0 or meant_for != str(os.getpid()):
        return None
    return int(period) / 2e6
