"""The HTTP server: a thread beside the coordinator, bound before anything is promised."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from edgepick_host.errors import ConfigError

STOP_SECONDS = 10.0
BACKLOG = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen, and with which certificate."""

    host: str
    port: int
    cert_file: str | None = None
    key_file: str | None = None

    @property
    def url(self) -> str:
        """Return what a person types into a browser."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.cert_file else 'http'}://{host}:{self.port}/"


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``.

    Raises:
        ConfigError: Anything else.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--http {text!r} is not HOST:PORT", hint="For this machine only: --http 127.0.0.1:8080")
    return host.strip("[]"), int(port)


@contextmanager
def serving(api: FastAPI, address: Address) -> Iterator[Address]:
    """Answer requests until the context ends; yields the address with the port that was bound.

    Raises:
        ConfigError: The address cannot be bound, or the certificate not be read.
    """
    bound = _bound(address)
    listening = Address(
        host=address.host, port=bound.getsockname()[1], cert_file=address.cert_file, key_file=address.key_file
    )
    try:
        config = uvicorn.Config(
            api,
            log_config=None,
            access_log=False,
            server_header=False,
            ssl_certfile=address.cert_file,
            ssl_keyfile=address.key_file,
            timeout_graceful_shutdown=3,
        )
        config.load()
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"{address.cert_file}: {error}", hint="--tls-cert and --tls-key name a certificate and its key, in PEM."
        ) from error
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="http", daemon=True)
    thread.start()
    try:
        yield listening
    finally:
        server.should_exit = True
        thread.join(STOP_SECONDS)
        bound.close()


def _bound(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((address.host, address.port))
        found.listen(BACKLOG)  # who comes before the thread accepts waits, and is not refused
    except OSError as error:
        found.close()
        raise ConfigError(
            f"cannot listen on {address.host}:{address.port}: {(error.strerror or str(error)).lower()}",
            hint="Choose another port with --http, or end what uses it: ss -ltnp",
        ) from error
    return found
