"""A slow link to the broker: bytes towards the device pass at a bounded rate, are counted, and can set a trap.

On loopback a model of some hundred kilobytes is there before anybody could pull the plug. Over this link it
takes as long as over a mobile connection, and what passed is known from a witness that is not the agent.
"""

import contextlib
import socket
import threading
import time

from edgepick_host.demo.witness import ChunkWitness

PIECE_BYTES = 2048
"""Passed at a time; small, so that the rate is even and a trap is precise."""

FREE_BYTES = 65_536
"""Taken at a time where there is no rate to keep."""


class SlowLink:
    """Relays connections from a port of its own to the broker.

    Args:
        broker_port: Where the broker listens, on the loopback interface.
        bytes_per_second: Rate towards the device; the other direction is free.
    """

    def __init__(self, broker_port: int, *, bytes_per_second: float) -> None:
        self._broker_port = broker_port
        self._rate = bytes_per_second
        self._trap_at: int | None = None
        self._sprung = threading.Event()
        self._lock = threading.Lock()
        self._carried = 0
        self._links: list[socket.socket] = []
        self._witnesses: list[ChunkWitness] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        threading.Thread(target=self._accept, name="slow-link", daemon=True).start()

    @property
    def carried_bytes(self) -> int:
        """Bytes that have passed towards the device, over all connections, MQTT's own included."""
        with self._lock:
            return self._carried

    def sent(self) -> tuple[str, ...]:
        """Return the digests of the chunks that have passed whole, over all connections, in order."""
        with self._lock:
            return tuple(digest for witness in self._witnesses for digest in witness.sent)

    def asked(self) -> tuple[str, ...]:
        """Return the digests of the chunks that the device has asked for, over all connections, in order."""
        with self._lock:
            return tuple(digest for witness in self._witnesses for digest in witness.asked)

    def set_rate(self, bytes_per_second: float) -> None:
        """Change the rate from now on."""
        self._rate = bytes_per_second

    def set_trap(self, after_bytes: int) -> threading.Event:
        """Return an event that is set once ``after_bytes`` more have passed; then nothing passes any more.

        What is in the trap's way is cut off with the device that falls into it: see :meth:`release`.
        """
        with self._lock:
            self._sprung.clear()
            self._trap_at = self._carried + after_bytes
        return self._sprung

    def release(self) -> None:
        """Drop what was held up, with its connections, and let new connections pass."""
        with self._lock:
            self._trap_at = None
        self._hang_up()
        self._sprung.clear()

    def close(self) -> None:
        """Take no more connections and drop the ones that there are."""
        _shut(self._door)
        self._hang_up()

    def _hang_up(self) -> None:
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            _shut(link)

    def _accept(self) -> None:
        while True:
            try:
                device, _ = self._door.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._broker_port), timeout=5.0)
            except OSError:
                device.close()
                continue
            broker.settimeout(None)
            with self._lock:
                self._links += [device, broker]
            threading.Thread(target=self._pass, args=(device, broker), daemon=True).start()
            threading.Thread(target=self._pass_slowly, args=(broker, device), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        """Pass what comes from the device until either side ends."""
        witness = self._new_witness()
        with contextlib.suppress(OSError, ValueError):
            while piece := source.recv(FREE_BYTES):
                sink.sendall(piece)
                with self._lock:
                    witness.feed(piece)
        _shut(source)
        _shut(sink)

    def _pass_slowly(self, source: socket.socket, sink: socket.socket) -> None:
        """Pass what comes from the broker until either side ends or the trap springs."""
        witness = self._new_witness()
        with contextlib.suppress(OSError, ValueError):
            while piece := source.recv(PIECE_BYTES):
                if self._sprung.is_set():
                    return
                sink.sendall(piece)
                self._passed(piece, witness)
                time.sleep(len(piece) / self._rate)
        _shut(source)
        _shut(sink)

    def _new_witness(self) -> ChunkWitness:
        witness = ChunkWitness()
        with self._lock:
            self._witnesses.append(witness)
        return witness

    def _passed(self, piece: bytes, witness: ChunkWitness) -> None:
        with self._lock:
            witness.feed(piece)
            self._carried += len(piece)
            if self._trap_at is not None and self._carried >= self._trap_at:
                self._sprung.set()


def _shut(link: socket.socket) -> None:
    """End a connection for whoever is reading from it, and close it."""
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
    link.close()
