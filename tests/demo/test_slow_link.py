"""The slow link carries everything, knows what it carried, and can be cut at a chosen byte."""

import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host.demo.slow_link import SlowLink
from edgepick_host.demo.waiting import wait_until
from edgepick_host.demo.witness import ChunkWitness

DEADLINE = 60.0


@pytest.fixture
def echo() -> Iterator[int]:
    """Provide the port of a server that sends back what it gets."""

    def serve() -> None:
        while True:
            try:
                link, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(link,), daemon=True).start()

    def answer(link: socket.socket) -> None:
        with link:
            while piece := link.recv(65_536):
                link.sendall(piece)

    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def receive(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := link.recv(size - len(data))):
        data += piece
    return data


def test_everything_passes_a_slow_link_unchanged_and_is_counted(echo: int) -> None:
    """The bytes arrive in order, and the count is theirs."""
    link = SlowLink(echo, bytes_per_second=1e9)
    sent = packet(b"t", os.urandom(20_000))

    with socket.create_connection(("127.0.0.1", link.port), timeout=DEADLINE) as device:
        device.sendall(sent)
        received = receive(device, len(sent))

    assert received == sent
    wait_until(lambda: link.carried_bytes == len(sent), what="the count", seconds=DEADLINE)
    link.close()


def test_a_slow_link_keeps_to_its_rate(echo: int) -> None:
    """Ten thousand bytes at twenty thousand a second take no less than a third of a second."""
    link = SlowLink(echo, bytes_per_second=20_000)

    with socket.create_connection(("127.0.0.1", link.port), timeout=DEADLINE) as device:
        begun = time.monotonic()
        device.sendall(bytes(10_000))
        receive(device, 10_000)
        took = time.monotonic() - begun

    assert took > 0.33
    link.close()


def test_a_trap_holds_back_what_comes_after_it(echo: int) -> None:
    """Once it has sprung nothing more passes, until it is released for new connections."""
    link = SlowLink(echo, bytes_per_second=1e9)
    sprung = link.set_trap(5_000)

    with socket.create_connection(("127.0.0.1", link.port), timeout=DEADLINE) as device:
        device.sendall(bytes(100_000))
        assert sprung.wait(DEADLINE)
        link.release()
        received = receive(device, 100_000)

    with socket.create_connection(("127.0.0.1", link.port), timeout=DEADLINE) as again:
        again.sendall(b"alive")
        assert receive(again, 5) == b"alive"
    link.close()
    assert 5_000 <= len(received) < 10_000


# The witness.


def packet(topic: bytes, payload: bytes, *, kind: int = 3, qos: int = 1) -> bytes:
    """Return an MQTT packet as a broker sends it."""
    body = len(topic).to_bytes(2, "big") + topic + (b"\x00\x01" if qos else b"") + payload
    return raw_packet(kind, body, flags=qos << 1 | 1)


def raw_packet(kind: int, body: bytes, *, flags: int = 2) -> bytes:
    """Return a packet of any type."""
    length, encoded = len(body), b""
    while True:
        length, low = divmod(length, 128)
        encoded += bytes([low | (0x80 if length else 0)])
        if not length:
            return bytes([kind << 4 | flags]) + encoded + body


digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


@given(st.lists(st.tuples(digests, st.binary(max_size=300)), max_size=8), st.integers(min_value=1, max_value=50))
def test_every_chunk_that_passes_whole_is_seen_once(sent: list[tuple[str, bytes]], piece: int) -> None:
    """However the stream is cut into pieces, the witness names the chunks in order, and nothing else."""
    other = packet(b"edgepick/1/demo/m/" + b"a" * 64, b"a manifest") + packet(b"", b"", kind=13, qos=0)
    stream = b"".join(other + packet(f"edgepick/1/demo/c/{d}".encode(), data) for d, data in sent)
    witness = ChunkWitness()

    for start in range(0, len(stream), piece):
        witness.feed(stream[start : start + piece])

    assert witness.sent == [digest for digest, _ in sent]
    assert witness.asked == []


@given(st.lists(st.lists(digests, min_size=1, max_size=5), max_size=5))
def test_every_chunk_that_is_asked_for_is_seen(requests: list[list[str]]) -> None:
    """A subscription to several chunks names each; subscriptions to other topics and cancellations name none."""
    filters = [b"edgepick/1/demo/host", *(f"edgepick/1/demo/c/{d}".encode() for batch in requests for d in batch)]
    body = b"".join(len(f).to_bytes(2, "big") + f + b"\x01" for f in filters)
    witness = ChunkWitness()

    witness.feed(raw_packet(8, b"\x00\x07" + body))
    witness.feed(raw_packet(10, b"\x00\x08" + len(filters[-1]).to_bytes(2, "big") + filters[-1]))

    assert witness.asked == [digest for batch in requests for digest in batch]
    assert witness.sent == []


def test_a_chunk_that_was_cut_off_is_not_seen() -> None:
    """One byte short is not delivered."""
    witness = ChunkWitness()

    witness.feed(packet(b"edgepick/1/demo/c/" + b"a" * 64, b"payload")[:-1])

    assert witness.sent == []


def test_what_is_not_mqtt_is_refused() -> None:
    """A stream of something else is an error, not a guess."""
    with pytest.raises(ValueError, match="not MQTT"):
        ChunkWitness().feed(b"\xff" * 10)
