"""Copies of a share of the served requests, for whoever compares them: the serving side of shadow mode.

A client never waits for any of it. A copy is taken once the client has been answered; it waits in a short line for a
thread that sends it. When the line is full, because the other side is slow or hangs, it is dropped and counted.
"""

import contextlib
import json
import math
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgepick_agent.ports import TensorSpec
from edgepick_agent.runner.tensors import to_real

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

MOST_WAITING = 8
MOST_BYTES = 16 * 1024 * 1024
"""Of all copies that wait together; one alone may be larger."""
BEAT_SECONDS = 1.0
"""The counts are sent this often at least, so that the other side knows that it is still heard."""
HELLO_BYTES = 4096
HEAD = struct.Struct("<IQ")
"""Before each frame: the length of its JSON, and of the tensors behind that."""
MOST_HEAD_BYTES, MOST_TENSOR_BYTES = 1 << 20, 1 << 31
WHOLE = 1000


class Share:
    """Draws requests at random, so many of every thousand exactly; the same seed draws the same ones.

    Requests are counted in blocks, as short as the share allows, and of each block the same number is drawn.
    """

    def __init__(self, permille: int, seed: str) -> None:
        common = math.gcd(permille, WHOLE)
        self._size, self._taken = WHOLE // common, permille // common
        self._seed = seed
        self._at = 0
        self._chosen: frozenset[int] = frozenset()

    def draws(self) -> bool:
        """Return whether the next request is drawn."""
        block, place = divmod(self._at, self._size)
        if place == 0:
            coin = random.Random(f"{self._seed}/{block}")
            self._chosen = frozenset(coin.sample(range(self._size), self._taken))
        self._at += 1
        return place in self._chosen


class Served(NamedTuple):
    """A request that was answered.

    Attributes:
        body: As it came.
        header_bytes: Length of its JSON part; ``None`` if that is all of it.
        outputs: As the model stores them.
        specs: What they are.
        took_ns: How long the inference took.
    """

    body: bytes
    header_bytes: int | None
    outputs: "Sequence[Array]"
    specs: Sequence[TensorSpec]
    took_ns: int

    @property
    def size(self) -> int:
        """Bytes that a copy of it holds."""
        return len(self.body) + sum(output.nbytes for output in self.outputs)


class Counts(NamedTuple):
    """Requests answered since the other side said what it wants, those drawn, and those dropped."""

    seen: int = 0
    drawn: int = 0
    dropped: int = 0


class Copied(NamedTuple):
    """A served request on the other side; the outputs by name, as real numbers."""

    body: bytes
    header_bytes: int | None
    outputs: "dict[str, Array]"
    took_ns: int


class Frame(NamedTuple):
    """What is sent: how things stand, and a copy unless it is only that."""

    counts: Counts
    copied: Copied | None


class Tap:
    """Hands copies to one listener at a time.

    Args:
        listener: A listening socket that only the agent's user may connect to: who connects sees what clients ask.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._share: Share | None = None
        self._counts = Counts()
        self._line: deque[Served] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._attend, name="tap", daemon=True).start()

    @property
    def is_open(self) -> bool:
        """Whether anybody listens."""
        return self._share is not None

    def offer(self, served: Served) -> None:
        """Count a request, and take a copy if it is drawn and there is room; returns at once."""
        with self._changed:
            if self._share is None:
                return
            seen, drawn, dropped = self._counts
            if not self._share.draws():
                self._counts = Counts(seen + 1, drawn, dropped)
            elif self._is_full(served.size):
                self._counts = Counts(seen + 1, drawn + 1, dropped + 1)
            else:
                self._counts = Counts(seen + 1, drawn + 1, dropped)
                self._line.append(served)
                self._bytes += served.size
                self._changed.notify_all()

    def _is_full(self, more: int) -> bool:
        return bool(self._line) and (len(self._line) >= MOST_WAITING or self._bytes + more > MOST_BYTES)

    def _attend(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, ValueError, KeyError):
                self._begin(*_hello(connection))
                self._hand_over(connection)
            self._begin(0, "")

    def _begin(self, permille: int, seed: str) -> None:
        with self._changed:
            self._share = Share(permille, seed) if permille else None
            self._counts, self._bytes = Counts(), 0
            self._line.clear()

    def _hand_over(self, connection: socket.socket) -> None:
        while True:
            served, counts = self._next()
            connection.sendall(pack(counts, served))

    def _next(self) -> tuple[Served | None, Counts]:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._line), BEAT_SECONDS)
            served = self._line.popleft() if self._line else None
            self._bytes -= served.size if served else 0
            return served, self._counts

    def close(self) -> None:
        """Take no further listener."""
        self._listener.close()


def _hello(connection: socket.socket) -> tuple[int, str]:
    # However long that takes: who connects is a candidate that has yet to load its model, and its end is heard.
    with connection.makefile("rb") as stream:
        wish = json.loads(stream.readline(HELLO_BYTES))
    return int(wish["permille"]), str(wish["seed"])


def say_hello(connection: socket.socket, permille: int, seed: str) -> None:
    """Ask for a share of the requests.

    Raises:
        OSError: Nobody hears it any more.
    """
    connection.sendall(json.dumps({"permille": permille, "seed": seed}).encode() + b"\n")


def pack(counts: Counts, served: Served | None) -> bytes:
    """Return a frame as it travels."""
    document: dict[str, Any] = {"counts": counts, "copied": None}
    parts: list[bytes] = []
    if served is not None:
        real = [to_real(output, spec) for output, spec in zip(served.outputs, served.specs, strict=True)]
        parts = [served.body, *(output.astype("<f4", copy=False).tobytes() for output in real)]
        document["copied"] = {
            "body": len(served.body),
            "header": served.header_bytes,
            "took_ns": served.took_ns,
            "outputs": [[spec.name, list(output.shape)] for spec, output in zip(served.specs, real, strict=True)],
        }
    head = json.dumps(document).encode()
    return b"".join((HEAD.pack(len(head), sum(map(len, parts))), head, *parts))


def receive(connection: socket.socket) -> Frame | None:
    """Return the next frame, or ``None`` once there will be none.

    Raises:
        ValueError: What came is no frame.
        OSError: The connection broke.
    """
    start = _exactly(connection, HEAD.size)
    if start is None:
        return None
    head_bytes, tensor_bytes = HEAD.unpack(start)
    if head_bytes > MOST_HEAD_BYTES or tensor_bytes > MOST_TENSOR_BYTES:
        raise ValueError(f"a frame of {head_bytes} and {tensor_bytes} bytes")
    head, tensors = _exactly(connection, head_bytes), _exactly(connection, tensor_bytes)
    return None if head is None or tensors is None else _parsed(json.loads(bytes(head)), memoryview(tensors))


def _exactly(connection: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    rest = memoryview(data)
    while rest:
        count = connection.recv_into(rest)
        if not count:
            return None
        rest = rest[count:]
    return data


def _parsed(document: dict[str, Any], data: memoryview) -> Frame:
    counts, said = Counts(*document["counts"]), document["copied"]
    if said is None:
        return Frame(counts, None)
    outputs: dict[str, Array] = {}
    at = said["body"]
    for name, shape in said["outputs"]:
        size = 4 * math.prod(shape)
        outputs[name] = np.frombuffer(data[at : at + size], "<f4").reshape(shape)
        at += size
    return Frame(counts, Copied(bytes(data[: said["body"]]), said["header"], outputs, said["took_ns"]))
