"""``serve``: answer Open Inference Protocol requests on a Unix socket until told to stop.

Its sockets answer health checks from the start; readiness comes once the model is loaded and has
passed its golden inputs. What the agent tells a runner is a signal:

- ``FRONT``: the variant is the active one; take requests from the port that the agent holds, too.
- ``LEAVE``: another variant is the active one; take no further ones from there.
- ``RETIRE``: a successor has taken over. Whoever is connected is still answered, each answer being
  the last one on its connection; when nobody is left, the runner ends. So no request is lost.
- SIGTERM, SIGINT: requests under way are answered, then the runner ends.
"""

import contextlib
import os
import select
import signal
import socket
import socketserver
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from edgepick_agent.core.runner_spec import FRONT, LEAVE, RETIRE, RunnerSpec
from edgepick_agent.errors import InferenceError, RunError
from edgepick_agent.ports import Session
from edgepick_agent.runner import golden as golden_inputs
from edgepick_agent.runner.endpoint import Handler, Service
from edgepick_agent.runner.session import open_model
from edgepick_agent.runner.tap import Tap

MOST_CONNECTIONS = 64
"""Of each listener; more than that at a time are closed at once. How many requests wait is bounded before."""
BACKLOG = 128
POLL_SECONDS = 0.1
OWNER_AND_GROUP, OWNER_ONLY = 0o117, 0o177
"""File mode creation masks of sockets."""

IDLE_SECONDS = 5.0
"""A retiring runner leaves a connection that says nothing for so long."""
LATECOMERS_SECONDS = 0.5
"""A client may have looked up the socket's name just before it led elsewhere."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (FRONT, LEAVE, RETIRE, *STOP_SIGNALS)


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """An HTTP server for one :class:`Service` on a listening socket; it knows who is connected."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listener: socket.socket, service: Service) -> None:
        # Not TCPServer's own: it makes a socket of the network, which a runner that is shut in may not.
        socketserver.BaseServer.__init__(self, ("", 0), Handler)
        self.socket = listener
        self.service = service
        self._busy: dict[socket.socket, bool] = {}
        self._changed = threading.Condition()

    def process_request(self, request: object, client_address: object) -> None:
        """Give the connection a thread, or close it if there are too many."""
        assert isinstance(request, socket.socket)
        with self._changed:
            if len(self._busy) >= MOST_CONNECTIONS:
                self.shutdown_request(request)
                return
            self._busy[request] = False
        super().process_request(request, client_address)

    def shutdown_request(self, request: object) -> None:
        """Close a connection, whether it was served or there was no thread for it, and forget it."""
        super().shutdown_request(request)  # type: ignore[arg-type]
        with self._changed:
            self._busy.pop(request, None)  # type: ignore[call-overload]
            self._changed.notify_all()

    def note(self, connection: socket.socket, *, busy: bool) -> None:
        """Take note that a connection has a request under way, or waits for the next one."""
        with self._changed:
            if connection in self._busy:
                self._busy[connection] = busy
                self._changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that goes away is no event."""

    def take_all(self) -> None:
        """Take in everyone who has connected so far, and nobody else."""
        self.shutdown()
        while select.select([self.socket], [], [], 0)[0]:
            self.handle_request()
        self.socket.close()

    def wait_answered(self, seconds: float) -> None:
        """Return when no request is under way, or after ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: not any(self._busy.values()), seconds)

    def wait_gone(self, seconds: float) -> None:
        """Return when nobody is connected, or after ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy, seconds)

    def hang_up(self) -> None:
        """Hear nothing further from those who wait; what they have said already is still answered."""
        with self._changed:
            for connection in [each for each, busy in self._busy.items() if not busy]:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)


def serve(spec: RunnerSpec, *, alongside: Callable[[Session], None] | None = None) -> None:
    """Serve the model of ``spec`` until told to stop or to retire.

    Args:
        spec: What to serve, and where.
        alongside: What to do with the loaded model besides; serving ends when it does.

    Raises:
        RunError: The model cannot be loaded or run, or does not pass its golden inputs.
    """
    # Waited for, not handled: a handler that sets an event can meet its own thread inside of it.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    service = Service(spec)
    with contextlib.closing(_Listening(spec, service)) as listening:
        sessions, watched = _tested(spec, service)
        service.open()
        if alongside is not None:
            threading.Thread(target=_until_done, args=(alongside, watched), daemon=True).start()
        while (told := signal.sigwait(SIGNALS)) in {FRONT, LEAVE}:
            if told == FRONT:
                listening.take_the_port()
            else:
                listening.leave_the_port()
        if told == RETIRE:
            listening.retire(spec.limits.inference_seconds + spec.serve_limits.queue_seconds)
        else:
            listening.finish(spec.limits.inference_seconds)
        for session in sessions:
            session.close()


def _until_done(work: Callable[[Session], None], session: Session) -> None:
    try:
        work(session)
    except BaseException:  # noqa: BLE001 - whatever it is, the process must not go on without what it is there for
        traceback.print_exc()
        os._exit(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _tested(spec: RunnerSpec, service: Service) -> tuple[list[Session], Session]:
    sessions = [open_model(spec).session for _ in range(spec.serve_limits.concurrency)]
    watched = service.load(*sessions)
    if spec.golden is not None:
        archive = golden_inputs.read_golden(Path(spec.golden.path))
        result = golden_inputs.check(watched, archive, spec.golden, lambda: None)
        if not result.passed:
            raise InferenceError(f"{Path(spec.model_path).name} fails its golden inputs: {result.detail}")
    return sessions, watched


class _Listening:
    """The sockets that a runner answers on: the agent's, its clients', and the port that runners of a model share."""

    def __init__(self, spec: RunnerSpec, service: Service) -> None:
        self._service = service
        self._names: dict[Path, os.stat_result] = {}
        self._servers: list[Server] = []
        self._port: Server | None = None
        self._tap: Tap | None = None
        self._shared = None if spec.tcp_fd is None else socket.socket(fileno=spec.tcp_fd)
        try:
            if spec.health_path is not None:
                self._listen(self._named(Path(spec.health_path), OWNER_ONLY))
            if spec.socket_path is not None:
                self._listen(self._named(Path(spec.socket_path), OWNER_AND_GROUP))
            if spec.tap_path is not None:
                service.tap = self._tap = Tap(self._named(Path(spec.tap_path), OWNER_ONLY))
            if spec.tcp_port is not None and self._shared is None:
                self._listen(tcp_listener(spec.tcp_port))
        except OSError as error:
            raise RunError(f"cannot listen on {spec.socket_path} or port {spec.tcp_port}: {error}") from error

    def _named(self, path: Path, mask: int) -> socket.socket:
        listener = unix_listener(path, mask=mask)
        self._names[path] = path.stat()
        return listener

    def _listen(self, listener: socket.socket) -> Server:
        server = Server(listener, self._service)
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": POLL_SECONDS}, daemon=True).start()
        return server

    def take_the_port(self) -> None:
        """Take requests from the shared port from now on."""
        if self._shared is not None and self._port is None:
            # Several runners may be woken for one client: who comes too late must not wait for the next.
            self._shared.settimeout(0)
            self._port = self._listen(self._shared)

    def leave_the_port(self) -> None:
        """Leave who waits at the shared port, and who comes, to another runner."""
        if self._port is not None:
            self._port.shutdown()
            self._port = None

    def retire(self, seconds: float) -> None:
        """Answer whoever is connected, for the last time on each connection."""
        self._service.last_answers = True
        self.leave_the_port()
        time.sleep(LATECOMERS_SECONDS)
        self._leave_names()
        for server in self._servers:
            if server.socket is not self._shared:
                server.take_all()
        self._wait(lambda server, left: server.wait_gone(left), IDLE_SECONDS)
        for server in self._servers:
            server.hang_up()
        self._wait(lambda server, left: server.wait_gone(left), seconds)

    def finish(self, seconds: float) -> None:
        """Answer what is under way."""
        self._service.last_answers = True
        for server in self._servers:
            server.shutdown()
            server.hang_up()
        self._wait(lambda server, left: server.wait_answered(left), seconds)

    def _wait(self, wait: Callable[[Server, float], None], seconds: float) -> None:
        end = time.monotonic() + seconds
        for server in self._servers:
            wait(server, max(0.0, end - time.monotonic()))

    def _leave_names(self) -> None:
        """Remove the sockets' names, unless a newer runner has taken them."""
        for path, own in self._names.items():
            with contextlib.suppress(OSError):
                if os.path.samestat(path.stat(), own):
                    path.unlink()

    def close(self) -> None:
        """Listen no longer."""
        for server in self._servers:
            server.socket.close()
        if self._tap is not None:
            self._tap.close()
        self._leave_names()


def unix_listener(path: Path, *, mask: int = OWNER_AND_GROUP) -> socket.socket:
    """Return a socket that listens at ``path``, for the owner and the group only, or whomever ``mask`` leaves.

    Raises:
        OSError: It cannot be bound.
    """
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    # A socket address holds 107 bytes, a path may be longer: bind by name in its folder.
    home, before = Path.cwd(), os.umask(mask)
    try:
        os.chdir(path.parent)
        listener.bind(path.name)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.chdir(home)
        os.umask(before)
    return listener


def tcp_listener(port: int) -> socket.socket:
    """Return a socket that listens on a loopback port.

    Raises:
        OSError: It cannot be bound.
    """
    return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
