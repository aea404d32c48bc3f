"""A site behind an uplink: its own broker, bridged to the central one, and devices that know no other."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from fakes.free_ports import free_port
from integration.tls_plant import TlsBroker, TlsHost, tls_lines
from integration.whole_system import Device

PIECE_BYTES = 65_536


class Uplink:
    """Relays connections to a port, counts what passes towards the site, and can be cut."""

    def __init__(self, port: int) -> None:
        self.carried_bytes = 0
        self._target = port
        self._is_up = True
        self._ends: list[socket.socket] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                if not self._is_up:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    near.close()
                    continue
                self._ends += [near, far]
                threading.Thread(target=self._pass, args=(near, far, 0), daemon=True).start()
                threading.Thread(target=self._pass, args=(far, near, 1), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counts: int) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                self.carried_bytes += len(piece) * counts
                sink.sendall(piece)
        hang_up(source)
        hang_up(sink)

    def cut(self) -> None:
        """Drop every connection, and take no other."""
        self._is_up = False
        for end in self._ends:
            hang_up(end)
        self._ends = []

    def restore(self) -> None:
        """Let connections pass again."""
        self._is_up = True

    def close(self) -> None:
        """End."""
        self.cut()
        hang_up(self._door)


def hang_up(end: socket.socket) -> None:
    """End a connection for whoever reads from it."""
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


class Site:
    """A site of a host's fleet, as `edgepick broker bridge` wrote it; the uplink alone is led through a relay."""

    def __init__(self, host: TlsHost, name: str) -> None:
        self.host = host
        self.name = name
        self.port = free_port()
        self.uplink = Uplink(host.port)
        made = host("broker", "bridge", name, "--port", self.port, "--json")
        assert made.code == 0, made.err
        self.folder = host.folder / made.json()["folder"]
        config = self.folder / "mosquitto.conf"
        config.write_text(config.read_text().replace(f"localhost:{host.port}", f"localhost:{self.uplink.port}"))
        self.broker = TlsBroker(self.folder, self.port)

    def device(self, name: str) -> Device:
        """Return an enrolled device that knows no broker but the site's."""
        folder = self.host.enroll(name, "--site", self.name)
        assert f"port = {self.port}" in (folder / "agent.toml").read_text()
        here = SimpleNamespace(url=f"mqtts://localhost:{self.port}", root=self.host.root)
        state = self.host.folder.parent / name  # short: sockets lie in it
        return Device(folder.parent, here, name, state=state, broker=tls_lines(folder))

    @contextlib.contextmanager
    def unless_stuck(self) -> Iterator[None]:
        """Skip a test that fails because mosquitto itself is in an endless loop.

        2.0.11 with a bridge now and then never returns from its ``keepalive__check`` when the uplink is back: it uses
        all of a processor, serves nobody and heeds no SIGTERM.
        """
        try:
            yield
        except AssertionError:
            if self.broker.is_stuck():
                pytest.skip("the site's mosquitto is in an endless loop of its own")
            raise

    def close(self) -> None:
        """End the broker and the uplink."""
        self.broker.stop()
        self.uplink.close()
