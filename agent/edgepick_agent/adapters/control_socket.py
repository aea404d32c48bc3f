"""The technician's door: one JSON line each way over a Unix socket that only this user may open.

With the line may come the open file that it names, so that root can have a file installed which the agent itself may
not reach. It is read as any other: nothing in it is trusted, and the name is only a name.
"""

import contextlib
import os
import queue
import socket
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from edgepick_agent.core.control import CONTROL_THREAD, Command, ControlReply, ControlRequest
from edgepick_agent.core.places import SOCKET_PATH_BYTES
from edgepick_agent.errors import ConfigError, NotAnsweringError, UnreachableError
from edgepick_wire import codec
from edgepick_wire.errors import WireError

LINE_BYTES = 64 * 1024
REPLY_BYTES = 4 * 1024 * 1024
REQUEST_SECONDS = 5.0
ANSWER_SECONDS = 3600.0
"""A local installation may have to copy and try a large model on a slow board."""
PROMPT_SECONDS = 10.0
"""Everything else is answered between two events of the agent's loop."""
WAITING_MAX = 16

Ask = Callable[[ControlRequest, Callable[[ControlReply], None]], None]
Lend = Callable[[str | None, BinaryIO | None], contextlib.AbstractContextManager[None]]


class ControlServer:
    """Listens while the agent runs; every request goes to ``ask``, its answer back to who asked.

    ``lend`` has a request's path read from the file that came with it, until the request is answered.
    """

    def __init__(self, path: Path, ask: Ask, lend: Lend) -> None:
        self._path = path
        self._ask = ask
        self._lend = lend
        self._slots = threading.BoundedSemaphore(WAITING_MAX)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Begin to listen; a name left behind by a killed agent is replaced.

        Raises:
            ConfigError: The path is too long for a socket, or cannot be bound.
        """
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            self._socket.bind(str(self._path))
        except OSError as error:
            hint = f"Choose a shorter `state_dir`; a socket's path may have {SOCKET_PATH_BYTES} bytes."
            raise ConfigError(f"{self._path}: {error}", hint=hint) from error
        finally:
            os.umask(before)
        self._socket.listen(WAITING_MAX)
        threading.Thread(target=self._accept, name=CONTROL_THREAD, daemon=True).start()

    def stop(self) -> None:
        """Stop listening and remove the name."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):  # storage may have become read-only; the next start replaces the name
            self._path.unlink()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if self._slots.acquire(blocking=False):
                threading.Thread(target=self._serve, args=(connection,), name=CONTROL_THREAD, daemon=True).start()
            else:
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(REQUEST_SECONDS)
                first, descriptors, *_ = socket.recv_fds(connection, LINE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
                with _regular(descriptors) as file:
                    reply = self._answer(_read_line(connection, LINE_BYTES, first), file)
                connection.sendall(codec.encode_document(reply) + b"\n")
        finally:
            self._slots.release()

    def _answer(self, line: bytes, file: BinaryIO | None) -> ControlReply:
        try:
            request = codec.decode(ControlRequest, line)
        except WireError as error:
            return ControlReply(ok=False, error=str(error), hint=error.hint)
        replies: queue.SimpleQueue[ControlReply] = queue.SimpleQueue()
        try:
            with self._lend(request.path, file):
                self._ask(request, replies.put)
                return replies.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            return ControlReply(ok=False, error="the agent did not answer", hint="Look at its log.")


def ask_agent(path: Path, request: ControlRequest, file: BinaryIO | None = None) -> ControlReply:
    """Return the running agent's answer; ``file`` is what the request's path names, opened.

    Raises:
        NotAnsweringError: It listens, but does not answer in time: it hangs, or was stopped.
        UnreachableError: No agent listens there, or it went away before it answered.
    """
    seconds = ANSWER_SECONDS if request.command is Command.INSTALL else PROMPT_SECONDS
    hint = "Is edgepick-agent running with this configuration?"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(path))
            asked = codec.encode_document(request) + b"\n"
            if file is not None:
                socket.send_fds(connection, [asked[:1]], [file.fileno()])  # one byte, as more could be sent in part
            connection.sendall(asked if file is None else asked[1:])
            line = _read_line(connection, REPLY_BYTES)
        except TimeoutError as error:
            silent = f"{path}: the agent runs, but did not answer within {seconds:g} s"
            raise NotAnsweringError(silent, hint="sudo systemctl restart edgepick-agent") from error
        except OSError as error:
            raise UnreachableError(f"{path}: {error.strerror or error}", hint=hint) from error
    if not line:
        raise UnreachableError(f"{path}: the agent went away before it answered", hint=hint)
    return codec.decode_document(ControlReply, line)


@contextlib.contextmanager
def _regular(descriptors: Sequence[int]) -> Iterator[BinaryIO | None]:
    """Yield the file that was passed and close it then; ``None`` for anything that reading might wait on for ever."""
    with contextlib.ExitStack() as held:
        for descriptor in descriptors:
            held.callback(os.close, descriptor)
        files = [os.fdopen(d, "rb", closefd=False) for d in descriptors if stat.S_ISREG(os.fstat(d).st_mode)]
        yield held.enter_context(files[0]) if files else None


def _read_line(connection: socket.socket, limit: int, first: bytes = b"") -> bytes:
    data = bytearray(first)
    while not data.endswith(b"\n") and len(data) < limit:
        piece = connection.recv(min(65536, limit - len(data)))
        if not piece:
            break
        data += piece
    return bytes(data).rstrip(b"\n")
