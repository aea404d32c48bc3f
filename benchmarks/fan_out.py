"""One publication for many devices: the bytes that leave the publisher, for files of every kind.

`edgepick publish` runs as a process of its own, and every byte that it sends passes a meter: chunks, manifests, root
document, desired state, and MQTT around them. It has ended before the first device connects. The devices are threads
with the agent's own fetch core and MQTT transport, without a disk; each takes the smallest form that it can, and
every tenth has nothing to subtract from.
"""

import hashlib
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from verdicts import Figure

from conftest import Broker
from edgepick_agent.adapters.mqtt import MqttTransport
from edgepick_agent.core import fetch as window
from edgepick_agent.core.events import ChunksDelivered, Connected, TransportEvent
from edgepick_agent.core.fetch import Asks, Target
from edgepick_agent.core.settings import BrokerSettings, FetchSettings
from edgepick_host.app.publishing import prepare_folder
from edgepick_host.service.prepare import PreparedRelease, Selection, SourceFile
from edgepick_wire import topics
from fakes.host_site import Site, variant, write_variants

FLEET = "bench"
MIB = 1024 * 1024
BASELESS = 10
"""One device in so many has no earlier version."""
SPREAD, DRIFT, HEAD = 20.0, 2.0, 50
"""Weights are normal with this deviation; training again moves all by :data:`DRIFT`, or one in :data:`HEAD` anew."""

RunBroker = Callable[[Path], AbstractContextManager[Broker]]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A version of a model that is published; those of one model follow each other."""

    name: str
    model: str
    content: bytes


def cases(size: int) -> list[Case]:
    """Return what is published: noise of four times ``size``, and weights as integers that were trained three times."""
    draw = np.random.default_rng(7)
    weights = draw.normal(0, SPREAD, size)
    head = np.concatenate([draw.normal(0, SPREAD, size // HEAD), weights[size // HEAD :]])
    noise = random.Random(7).randbytes(4 * size)
    return [
        Case(name="incompressible, first version", model="noise", content=noise),
        Case(name="compressible, first version", model="weights", content=_integers(weights)),
        Case(name="compressible, second version, a new head", model="weights", content=_integers(head)),
        Case(
            name="compressible, third version, all trained on",
            model="weights",
            content=_integers(head + draw.normal(0, DRIFT, size)),
        ),
    ]


def _integers(weights: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> bytes:
    return np.clip(np.rint(weights), -127, 127).astype(np.int8).tobytes()


class Meter:
    """Leads connections to a broker, and counts what is sent there."""

    def __init__(self, broker_port: int) -> None:
        self.sent = 0
        self._target = ("127.0.0.1", broker_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                for source, target, counted in ((near, far, True), (far, near, False)):
                    threading.Thread(target=self._pass_on, args=(source, target, counted), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, counted: bool) -> None:  # noqa: FBT001 - a thread's
        with suppress(OSError):
            while data := source.recv(MIB):
                self.sent += len(data) if counted else 0
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


class Fetcher(threading.Thread):
    """A device without a disk: the agent's transport and its fetch core; ends when everything is here."""

    def __init__(self, port: int, name: str, targets: Sequence[Target]) -> None:
        super().__init__(name=name, daemon=True)
        self._inbox: queue.SimpleQueue[TransportEvent] = queue.SimpleQueue()
        settings = BrokerSettings(host="127.0.0.1", port=port)
        self._transport = MqttTransport(settings, name, (f"bench/{name}", b"gone"), self._inbox.put, self._take_chunk)
        self.fetch = window.begin(targets, {}, FetchSettings())
        self.taken = 0

    def run(self) -> None:
        """Fetch until everything is here."""
        self._transport.start()
        while not self.fetch.finished:
            self._take(self._inbox.get(timeout=60))
        self._transport.stop()

    @staticmethod
    def _take_chunk(digest: str, data: bytes | memoryview) -> window.Chunk:
        return window.Chunk(digest, len(data), hashlib.sha256(data).hexdigest() == digest)

    def _take(self, event: TransportEvent) -> None:
        now = time.monotonic()
        if isinstance(event, Connected):
            self.fetch, asks = window.connected(self.fetch, now)
            self._tell(asks)
        elif isinstance(event, ChunksDelivered):
            self.fetch, arrivals = window.accept_all(self.fetch, event.chunks, now)
            self.taken += sum(piece.size for arrival in arrivals for piece in arrival.pieces)
            self.fetch, asks = window.pump(self.fetch, now)
            self._tell(asks)

    def _tell(self, asks: Asks) -> None:
        if asks.subscribe:
            self._transport.subscribe((topics.chunk(FLEET, digest), 0) for digest in asks.subscribe)
        if asks.unsubscribe:
            self._transport.unsubscribe(topics.chunk(FLEET, digest) for digest in asks.unsubscribe)


def fan_out(folder: Path, size: int, counts: Sequence[int], run_broker: RunBroker, say: Say) -> Iterator[Figure]:
    """Yield the bytes that leave the publisher for so many devices, in sizes of the files published."""
    site = Site(folder / "site")
    site.folder.mkdir()
    _edgepick(site, "keys", "init", "--fleet", FLEET)
    made = cases(size)
    folders = [_written(folder / f"case-{number}", case) for number, case in enumerate(made)]
    say(f"\nOne publication, files of {size // MIB} MiB (incompressible: {4 * size // MIB} MiB):")
    for count in counts:
        with run_broker(folder / f"fan-out-broker-{count}") as broker:
            for case, place in zip(made, folders, strict=True):
                sent, release = _publish(site, place, broker.port)
                seconds, taken = _fetch_all(broker.port, release, count)
                blob = release.manifest.size
                say(f"  {case.name}, {count} devices: {taken / count / blob:.2f} blobs each, in {seconds:.1f} s")
                name = f"bytes leaving the publisher, {case.name}, {count} devices"
                yield Figure(name=name, found=sent / blob, unit="blobs", at_most=1.05)


def _written(folder: Path, case: Case) -> Path:
    return write_variants(folder, [(variant("int8", case.content), case.content)], model=case.model)


def _edgepick(site: Site, *words: str) -> None:
    command = [sys.executable, "-m", "edgepick_host", *words]
    subprocess.run(command, check=True, cwd=site.folder, stdout=subprocess.DEVNULL)


def _publish(site: Site, place: Path, port: int) -> tuple[int, PreparedRelease]:
    """Return the bytes that the publisher sent, and what it published."""
    meter = Meter(port)
    _edgepick(site, "publish", str(place), "--broker", f"mqtt://127.0.0.1:{meter.port}", "--json")
    meter.close()
    (release,) = prepare_folder(site.settings(), place, Selection(fleet=FLEET)).releases
    return meter.sent, release


def _fetch_all(port: int, release: PreparedRelease, count: int) -> tuple[float, int]:
    ways = _with_base(release), _complete(release)
    devices = [Fetcher(port, f"device-{n}", ways[n % BASELESS == BASELESS - 1]) for n in range(count)]
    began = time.perf_counter()
    for device in devices:
        device.start()
    for device in devices:
        device.join(300)
    assert all(device.fetch.finished for device in devices)
    return time.perf_counter() - began, sum(device.taken for device in devices)


def _complete(release: PreparedRelease) -> list[Target]:
    return [_target(source) for source in release.sources if _base(release, source) is None]


def _with_base(release: PreparedRelease) -> list[Target]:
    """Return what a device fetches that has the version before, and with it the self-test."""
    differences = [_target(source) for source in release.sources if _base(release, source) is not None]
    return sorted(differences, key=lambda target: target.size)[:1] or _complete(release)


def _base(release: PreparedRelease, source: SourceFile) -> str | None:
    forms = (form for file in release.manifest.files for form in file.encodings)
    return next((form.base for form in forms if form.sha256 == source.chunked.entry.sha256), None)


def _target(source: SourceFile) -> Target:
    entry = source.chunked.entry
    return Target(name=entry.sha256, size=entry.size, chunk_size=entry.chunk_size, digests=source.chunked.chunks)
