"""The technician's door: one line of JSON from whatever connects to the agent's socket."""

import socket
import tempfile
from contextlib import nullcontext
from pathlib import Path

from edgepick_agent.adapters.control_socket import ControlServer
from edgepick_agent.core.control import Command, ControlReply, ControlRequest
from edgepick_wire import codec

SEEDS = [
    codec.encode_document(ControlRequest(command=command, model="digits", path="/media/usb/x.edgepick"))
    for command in Command
]
DONE = ControlReply(ok=True)


class Server(ControlServer):
    """The server, without a thread."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            super().__init__(Path(folder) / "s", lambda _request, answer: answer(DONE), lambda *_: nullcontext())
        self._socket.close()

    def answer(self, line: bytes) -> ControlReply:
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.sendall(line + b"\n")
            self._slots.acquire()
            self._serve(ours)
            reply = b"".join(iter(lambda: theirs.recv(65536), b""))
        return codec.decode_document(ControlReply, reply)


SERVER = Server()


def one(data: bytes) -> None:
    """Ask: what is understood is done, anything else is refused in words, and there is always an answer."""
    reply = SERVER.answer(data)
    assert reply.ok or reply.error
