"""``serve``: answer Open Inference Protocol requests on a Unix socket until told to stop.

The socket answers health checks from the start; readiness comes once the model is loaded and has
passed its golden inputs. One inference runs at a time. SIGTERM lets the request in flight finish.
"""

import contextlib
import os
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.errors import InferenceError, RunError
from edgepick_agent.ports import Session
from edgepick_agent.runner import golden as golden_inputs
from edgepick_agent.runner.endpoint import Handler, Service
from edgepick_agent.runner.session import open_model

MOST_CONNECTIONS = 32
"""More than that at a time are closed at once; a local client that needs more should queue."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """An HTTP server for one :class:`Service`, on a Unix socket or a loopback port."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: "str | tuple[str, int]", family: int, service: Service) -> None:
        self.address_family = family
        self.service = service
        self._slots = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, Handler)  # type: ignore[arg-type]  # typeshed knows TCP addresses only

    def process_request(self, request: object, client_address: object) -> None:
        """Give the connection a thread, or close it if there are too many."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Serve one connection and give its slot back."""
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self._slots.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that goes away is no event."""


def serve(spec: RunnerSpec) -> None:
    """Serve the model of ``spec``; returns after SIGTERM or SIGINT, once the request in flight is answered.

    Raises:
        RunError: The model cannot be loaded or run, or does not pass its golden inputs.
    """
    # Waited for, not handled: a handler that sets an event can meet its own thread inside of it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    service = Service(spec)
    with _listening(spec, service):
        session = _tested(spec, service)
        service.open(session)
        signal.sigwait(STOP_SIGNALS)
        service.drain(spec.limits.inference_seconds)
        session.close()


def _tested(spec: RunnerSpec, service: Service) -> Session:
    session = open_model(spec).session
    if spec.golden is not None:
        archive = golden_inputs.read_golden(Path(spec.golden.path))
        result = golden_inputs.check(service.watched(session), archive, spec.golden, lambda: None)
        if not result.passed:
            raise InferenceError(f"{Path(spec.model_path).name} fails its golden inputs: {result.detail}")
    return session


@contextlib.contextmanager
def _listening(spec: RunnerSpec, service: Service) -> Iterator[None]:
    try:
        servers = [*_unix_server(spec, service), *_tcp_server(spec, service)]
    except OSError as error:
        raise RunError(f"cannot listen on {spec.socket_path} or port {spec.tcp_port}: {error}") from error
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.25}, daemon=True).start()
    try:
        yield
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        if spec.socket_path:
            Path(spec.socket_path).unlink(missing_ok=True)


def _unix_server(spec: RunnerSpec, service: Service) -> Iterator[Server]:
    if spec.socket_path is None:
        return
    path = Path(spec.socket_path)
    path.unlink(missing_ok=True)
    # A socket address holds 107 bytes, a path may be longer: bind by name in its folder.
    home, mask = Path.cwd(), os.umask(0o117)
    try:
        os.chdir(path.parent)
        yield Server(path.name, socket.AF_UNIX, service)
    finally:
        os.chdir(home)
        os.umask(mask)


def _tcp_server(spec: RunnerSpec, service: Service) -> Iterator[Server]:
    if spec.tcp_port is not None:
        yield Server(("127.0.0.1", spec.tcp_port), socket.AF_INET, service)
