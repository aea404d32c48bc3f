"""A network between agents and a broker that is as bad as asked for: a TCP proxy that knows MQTT's packets.

What it does to a connection is drawn from a seed, the client's id and the number of the connection, so
that a failing run can be repeated. It also counts what passes: the chunks that each agent was sent.
"""

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

PIPE_BYTES = 65536
LOOK_SECONDS = 0.05
CONNECT, PUBLISH, SUBSCRIBE = 1, 3, 8
DUP = 0x08


class Trouble(Enum):
    """How a connection ends before its time."""

    DROP = "drop"
    """Reset: what was under way is lost on both sides."""
    TRUNCATE = "truncate"
    """Half of a packet arrives, then nothing more: the connection is closed."""
    HALF_CLOSE = "half-close"
    """The broker's direction ends properly; the agent's stays open and leads nowhere."""
    BLACK_HOLE = "black-hole"
    """Nothing arrives any more in either direction, and nobody is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What the network does.

    Attributes:
        troubles: Ways in which connections break.
        trouble_share: Share of the packets at which one does.
        trouble_limit: Connections broken so in all; afterwards the network holds.
        delay_seconds: Longest delay of one packet.
        duplicate_share: Share of QoS 1 publications that arrive again, marked DUP.
        reorder_share: Share of publications that are overtaken by the next one of another topic.
        lose_share: Share of QoS 0 publications to the agent that a full queue discards.
        trickle: Every byte is sent alone.
    """

    troubles: tuple[Trouble, ...] = ()
    trouble_share: float = 0.0
    trouble_limit: int = 6
    delay_seconds: float = 0.0
    duplicate_share: float = 0.0
    reorder_share: float = 0.0
    lose_share: float = 0.0
    trickle: bool = False


CALM = Weather()


@dataclass(frozen=True, slots=True)
class Packet:
    """One MQTT control packet; ``down`` leads from the broker to the agent."""

    raw: bytes
    down: bool

    @property
    def kind(self) -> int:
        return self.raw[0] >> 4

    @property
    def qos(self) -> int:
        return (self.raw[0] >> 1) & 3 if self.kind == PUBLISH else 0

    @property
    def body(self) -> bytes:
        return self.raw[1 + _length_bytes(self.raw) :]

    @property
    def topic(self) -> str:
        """The topic of a publication; empty for every other packet."""
        if self.kind != PUBLISH:
            return ""
        size = int.from_bytes(self.body[:2], "big")
        return self.body[2 : 2 + size].decode()

    @property
    def filters(self) -> list[str]:
        """The topic filters of a SUBSCRIBE, which follow its packet id, each with a byte for its QoS."""
        found, rest = [], self.body[2:]
        while rest:
            size = int.from_bytes(rest[:2], "big")
            found.append(rest[2 : 2 + size].decode())
            rest = rest[3 + size :]
        return found

    @property
    def client(self) -> str:
        """The client id of a CONNECT: after the protocol's name and four bytes of header."""
        start = 2 + int.from_bytes(self.body[:2], "big") + 4
        size = int.from_bytes(self.body[start : start + 2], "big")
        return self.body[start + 2 : start + 2 + size].decode()

    def again(self) -> "Packet":
        """Return the same publication as a sender repeats it."""
        return Packet(bytes([self.raw[0] | DUP]) + self.raw[1:], self.down)


def _length_bytes(raw: bytes) -> int:
    return next(i for i in range(1, 5) if not raw[i] & 0x80)


def packets(buffer: bytearray, *, down: bool) -> Iterator[Packet]:
    """Yield the whole packets at the front of ``buffer``, and take them out of it (MQTT 3.1.1, section 2.2.3)."""
    while (size := _packet_bytes(buffer)) is not None and len(buffer) >= size:
        yield Packet(bytes(buffer[:size]), down)
        del buffer[:size]


def _packet_bytes(buffer: bytearray) -> int | None:
    length = 0
    for i in range(1, min(5, len(buffer))):
        length |= (buffer[i] & 0x7F) << 7 * (i - 1)
        if not buffer[i] & 0x80:
            return 1 + i + length
    return None


class BrokenError(Exception):
    """A connection has come to its end."""


@dataclass
class Tally:
    """What passed between one client and the broker.

    Attributes:
        chunks: How often each chunk was sent to it.
        asked: How often it asked for each.
        mangled: How often a packet was delayed, duplicated, overtaken, lost or taken apart.
        subscribed_at: When it sent a SUBSCRIBE packet.
    """

    chunks: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    mangled: Counter[str] = field(default_factory=Counter)
    subscribed_at: list[float] = field(default_factory=list)

    @property
    def chunks_sent(self) -> int:
        return self.chunks.total()


class Link:
    """One client's connection through the proxy."""

    def __init__(self, agent: socket.socket, broker: socket.socket) -> None:
        self.agent = agent
        self.broker = broker
        self.client = ""
        self.number = 0
        self.swallows = False

    def close(self, *, reset: bool = False) -> None:
        for end in (self.agent, self.broker):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Listens on ``port`` and leads every connection to the broker."""

    def __init__(self, broker_port: int, *, weather: Weather = CALM, seed: int = 0) -> None:
        self.weather = weather
        self.seed = seed
        self.tallies: dict[str, Tally] = {}
        self.caught = threading.Event()
        self._broker_port = broker_port
        self._trap: Callable[[Packet], bool] | None = None
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._links: set[Link] = set()
        self._ended = False
        self._door = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._door.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    # --- for tests ---

    def trap(self, catches: Callable[[Packet], bool]) -> None:
        """Stop the first packet that ``catches``; :attr:`caught` is set then, and the packet never arrives."""
        self.caught.clear()
        self._released.clear()
        self._trap = catches

    def release(self) -> None:
        """Break the connection whose packet was caught."""
        self._released.set()

    def close(self) -> None:
        self._ended = True
        self._released.set()
        self._door.close()
        for link in list(self._links):
            link.close()

    def tally(self, client: str) -> Tally:
        with self._lock:
            return self.tallies.setdefault(client, Tally())

    # --- connections ---

    def _serve(self) -> None:
        while not self._ended:
            try:
                agent, _ = self._door.accept()
            except OSError:
                return
            try:
                broker = socket.create_connection(("127.0.0.1", self._broker_port), timeout=2)
            except OSError:
                agent.close()
                continue
            self._lead(agent, broker)

    def _lead(self, agent: socket.socket, broker: socket.socket) -> None:
        for end in (agent, broker):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(LOOK_SECONDS)
        link = Link(agent, broker)
        with self._lock:
            self._links.add(link)
        for down in (False, True):
            threading.Thread(target=self._pipe, args=(link,), kwargs={"down": down}, daemon=True).start()

    def _pipe(self, link: Link, *, down: bool) -> None:
        source, target = (link.broker, link.agent) if down else (link.agent, link.broker)
        try:
            self._pass_on(link, source, target, down=down)
        except (BrokenError, OSError, ValueError):
            pass
        finally:
            link.close()
            with self._lock:
                self._links.discard(link)

    def _pass_on(self, link: Link, source: socket.socket, target: socket.socket, *, down: bool) -> None:
        buffer, held, dice = bytearray(), None, None
        while not self._ended:
            try:
                data = source.recv(PIPE_BYTES)
            except TimeoutError:
                if held is not None:
                    self._send(link, target, held)
                    held = None
                continue
            if not data:
                return
            buffer += data
            for packet in packets(buffer, down=down):
                self._meet(link, packet)
                dice = dice or random.Random(f"{self.seed}/{link.client}/{link.number}/{down}")
                held = self._forward(link, target, packet, held, dice)

    def _meet(self, link: Link, packet: Packet) -> None:
        if packet.kind == CONNECT and not packet.down:
            link.client = packet.client
            tally = self.tally(link.client)
            tally.connections += 1
            link.number = tally.connections
        elif packet.kind == SUBSCRIBE and not packet.down:
            tally = self.tally(link.client)
            tally.subscribed_at.append(time.monotonic())
            tally.asked.update(topic[-64:] for topic in packet.filters if "/c/" in topic)
        if self._trap is not None and self._trap(packet):
            self._trap = None
            self.caught.set()
            self._released.wait(60)
            link.close(reset=True)
            raise BrokenError

    # --- packets ---

    def _forward(
        self, link: Link, target: socket.socket, packet: Packet, held: Packet | None, dice: random.Random
    ) -> Packet | None:
        """Send a packet as the weather has it, and return the one that is held back for the next to overtake."""
        weather, mangled = self.weather, self.tally(link.client).mangled
        self._break(link, target, packet, dice)
        if weather.delay_seconds:
            mangled["delayed"] += 1
            time.sleep(dice.uniform(0, weather.delay_seconds))
        if packet.down and packet.kind == PUBLISH and not packet.qos and dice.random() < weather.lose_share:
            mangled["lost"] += 1
            return held
        may_wait = held is None and packet.kind == PUBLISH and packet.down
        if may_wait and dice.random() < weather.reorder_share:
            return packet
        overtakes = held is not None and packet.kind == PUBLISH and packet.topic != held.topic
        mangled["overtaken"] += overtakes
        for one in (packet, held) if overtakes else (held, packet):
            if one is not None:
                self._send(link, target, one)
        if packet.qos and dice.random() < weather.duplicate_share:
            mangled["duplicated"] += 1
            self._send(link, target, packet.again())
        return None

    def _break(self, link: Link, target: socket.socket, packet: Packet, dice: random.Random) -> None:
        trouble = self._trouble(link, packet, dice)
        if trouble is Trouble.DROP:
            link.close(reset=True)
            raise BrokenError
        if trouble is Trouble.TRUNCATE:
            target.sendall(packet.raw[: len(packet.raw) // 2])
            raise BrokenError
        if trouble is Trouble.HALF_CLOSE:
            link.agent.shutdown(socket.SHUT_WR)
            link.swallows = True
        if trouble is Trouble.BLACK_HOLE:
            link.swallows = True

    def _trouble(self, link: Link, packet: Packet, dice: random.Random) -> Trouble | None:
        weather = self.weather
        if link.swallows or not weather.troubles or dice.random() >= weather.trouble_share:
            return None
        with self._lock:
            if sum(t.broken.total() for t in self.tallies.values()) >= weather.trouble_limit:
                return None
            trouble = dice.choice(weather.troubles)
            self.tallies.setdefault(link.client, Tally()).broken[trouble.value] += 1
        return trouble

    def _send(self, link: Link, target: socket.socket, packet: Packet) -> None:
        if link.swallows:
            return
        if packet.down and "/c/" in packet.topic:
            self.tally(link.client).chunks[packet.topic[-64:]] += 1
        if not self.weather.trickle:
            target.sendall(packet.raw)
            return
        self.tally(link.client).mangled["taken apart"] += 1
        for byte in packet.raw:
            target.sendall(bytes([byte]))
