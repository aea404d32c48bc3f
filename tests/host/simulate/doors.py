"""A broker's door: it lets one client in, and does what a test says from then on."""

import socket
import ssl
import threading
from collections.abc import Callable

CONNACK = b"\x20\x02\x00\x00"
"""Come in (MQTT 3.1.1, section 3.2)."""
PATIENCE_SECONDS = 60.0


class Door:
    """Accepts one connection, and answers whatever arrives first as ``answer`` says."""

    def __init__(self, answer: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._answer, self._context = answer, context
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listening.accept()
        with self._context.wrap_socket(connection, server_side=True) if self._context else connection as link:
            link.recv(4096)
            self._answer(link)
            self._ended.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(PATIENCE_SECONDS)
        self._listening.close()
