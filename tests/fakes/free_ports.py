"""Ports for servers that a test starts, and starts again."""

import itertools
import random
import socket

LOWEST, COUNT = 15_000, 17_000
"""Below those that Linux gives to outgoing connections (ip_local_port_range: 32768 to 60999), of which tests make many:
a server that was ended finds its port still free."""

_numbers = itertools.count(random.SystemRandom().randrange(COUNT))


def free_port() -> int:
    """Return a port that was free a moment ago, another one at every call."""
    while not _is_free(port := LOWEST + next(_numbers) % COUNT):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
