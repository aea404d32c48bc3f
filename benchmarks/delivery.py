"""``make bench-delivery``: how fast and how frugal the delivery is, against mosquitto on loopback.

Everything runs on this machine in one go. Ratios are of medians of the same rounds, and of the best rounds
besides: other work only slows something down, so a ratio of medians alone looks good where it was the comparison
that was disturbed. What is compared:

- *stream*: mosquitto_sub receives as many 64 KiB messages as the blob has chunks, published by
  mosquitto_pub through the same broker at QoS 0; first to last message by mosquitto_sub's own stamps.
- *kept*: the same, but written to a file by mosquitto_sub; not hashed. *work*: hashing and writing chunks
  in one thread, without any network.
- *retained*: mosquitto_sub subscribes to every chunk's topic at once and gets the retained messages;
  it neither hashes nor keeps them. The same stamps.
- *agent*: the real agent process, from its first ask to the last chunk, each verified by SHA-256 and
  written to disk. *whole*: until the bundle is checked as a whole, synced and in the store.
- *HTTP*: a download of the same bytes from Python's http.server, hashed by SHA-256 while written.

The fan-out is in ``fan_out.py``, the deltas are in ``deltas.py``.

What is measured is told on stderr as it comes; at the end, one table of figures beside their targets, or JSON.
"""

import argparse
import hashlib
import http.client
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import deltas as pairs
from fan_out import fan_out
from paho.mqtt import __version__ as paho_version
from verdicts import Figure, as_json, as_table

from conftest import Broker, free_port, mosquitto
from edgepick_agent.core import places
from edgepick_wire import codec, envelope, topics
from edgepick_wire.envelope import DocumentType
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import manifest_digest
from fakes.agent_process import AgentProcess, HostClient, until
from fakes.host_stand_in import RELEASE, Bundle, HostStandIn, bundle, entry
from wire.wire_keys import sign

MIB = 1024 * 1024
CHUNK = 65536
SUBSCRIBE_SECONDS = 0.5
"""Time for mosquitto_sub to connect and subscribe; outside what is measured."""
STAMP_BYTES = 20
"""Characters of mosquitto_sub's ``%U``: seconds, a point, and nine digits."""
TCP_INFO_BYTES_ACKED = 120
"""Offset of ``tcpi_bytes_acked`` in Linux's ``struct tcp_info`` (linux/tcp.h)."""


def say(text: str = "") -> None:
    """Tell what is measured, at once."""
    print(text, file=sys.stderr, flush=True)


def noise(seed: str, size: int) -> bytes:
    """Return random bytes, the same for the same seed; drawn by the MiB, as Python draws less than 256 MiB at once."""
    random = Random(seed)
    return b"".join(random.randbytes(min(MIB, size - start)) for start in range(0, size, MIB))


def made(version: str, size: int) -> Bundle:
    """Return a signed bundle whose model is ``size`` random bytes."""
    files = {"model.tflite": noise(version, size), "golden.npz": b"x" * 1000}
    entries = {name: entry(name, data, CHUNK) for name, data in files.items()}
    content = replace(bundle(version).content, files=tuple(file for file, _ in entries.values()))
    payload = codec.encode(content)
    return Bundle(
        content=content,
        raw=envelope.pack(sign(DocumentType.MANIFEST, payload, [RELEASE])),
        digest=manifest_digest(payload),
        files=files,
        chunks={digest: data for _, parts in entries.values() for digest, data in parts.items()},
    )


@contextmanager
def running_broker(folder: Path) -> Iterator[Broker]:
    """Yield mosquitto with its queue unlimited, as for the comparison's push it must be."""
    folder.mkdir()
    broker = Broker(port=free_port(), folder=folder, kind="mosquitto", extra="max_queued_messages 0")
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


# --- goodput --------------------------------------------------------------------------------------


@dataclass
class Rounds:
    """MiB per second of each round, by what was measured."""

    found: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, mib_per_s: float) -> None:
        """Keep one figure."""
        self.found.setdefault(name, []).append(mib_per_s)

    def median(self, name: str) -> float:
        """Return the median of what was measured."""
        return statistics.median(self.found[name])

    def table(self) -> None:
        """Print everything measured."""
        for name, values in self.found.items():
            each = " ".join(f"{value:6.0f}" for value in values)
            say(f"  {name:<9} median {self.median(name):6.0f} MiB/s   rounds {each}")


def stamps(output: str) -> float:
    """Return the seconds between the first and the last line of ``mosquitto_sub -F %U``."""
    found = [float(line) for line in output.split()]
    return found[-1] - found[0]


def stream(port: int, count: int, folder: Path) -> float:
    """Return the seconds in which mosquitto_sub receives ``count`` messages of 64 KiB."""
    where = ["-h", "127.0.0.1", "-p", str(port), "-q", "0", "-t", "bench/stream"]
    payload = folder / "payload"
    payload.write_bytes(os.urandom(CHUNK))
    command = ["mosquitto_sub", *where, "-C", str(count), "-F", "%U"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
        time.sleep(SUBSCRIBE_SECONDS)
        subprocess.run(["mosquitto_pub", *where, "-f", str(payload), "--repeat", str(count)], check=True)
        output, _ = receiver.communicate()
    return stamps(output)


def kept(port: int, count: int, folder: Path) -> float:
    """Return the seconds in which mosquitto_sub receives ``count`` messages and writes them to a file."""
    where = ["-h", "127.0.0.1", "-p", str(port), "-q", "0", "-t", "bench/kept"]
    payload, target = folder / "payload", folder / "kept"
    payload.write_bytes(os.urandom(CHUNK))
    command = ["mosquitto_sub", *where, "-C", str(count), "-F", "%U %p"]
    with target.open("wb") as out, subprocess.Popen(command, stdout=out) as receiver:
        time.sleep(SUBSCRIBE_SECONDS)
        subprocess.run(["mosquitto_pub", *where, "-f", str(payload), "--repeat", str(count)], check=True)
        receiver.wait()
    with target.open("rb") as written:
        first = written.read(STAMP_BYTES)
        written.seek(-(STAMP_BYTES + CHUNK + 2), os.SEEK_END)  # the last record: stamp, space, payload, newline
        return float(written.read(STAMP_BYTES)) - float(first)


def work_of_a_chunk(folder: Path) -> float:
    """Return the seconds that hashing and writing one chunk takes in one thread, and nothing else."""
    data, count = os.urandom(CHUNK), 1024
    descriptor = os.open(folder / "chunks", os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, count * CHUNK)
    began = time.perf_counter()
    for number in range(count):
        hashlib.sha256(data).digest()
        os.pwrite(descriptor, data, number * CHUNK)
    seconds = time.perf_counter() - began
    os.close(descriptor)
    return seconds / count


def retained(port: int, names: list[str]) -> float:
    """Return the seconds in which mosquitto_sub receives the retained chunks."""
    wanted = [part for name in names for part in ("-t", name)]
    command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-q", "0", "-C", str(len(names)), "-F", "%U"]
    return stamps(subprocess.run([*command, *wanted], check=True, capture_output=True, text=True).stdout)


def fresh_agent(folder: Path, port: int) -> AgentProcess:
    """Return a connected agent with nothing in its store."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    agent = AgentProcess(folder, port).start()
    until(agent.is_connected, "connected")
    until((agent.state / "runtimes.json").exists, "the runtimes are known")
    return agent


def install(agent: AgentProcess, host: HostStandIn, wanted: Bundle) -> tuple[float, float]:
    """Have the agent fetch a bundle; return the seconds of its chunks, and until it is in the store."""
    began = time.perf_counter()
    host.want(wanted, rollout=f"r{host.sequence}")
    until((agent.state / places.manifest_file(wanted.digest)).exists, "stored")
    whole = time.perf_counter() - began
    said = re.findall(r"fetched \d+ chunks, (\d+) bytes in ([\d.]+) s", agent.log())
    host.want(None)
    return max((int(size), float(seconds)) for size, seconds in said)[1], whole


def http_download(folder: Path, wanted: Bundle) -> float:
    """Return the seconds of a plain download that is hashed while it is written."""
    served = folder / "served"
    served.mkdir(exist_ok=True)
    (served / "model").write_bytes(wanted.files["model.tflite"])
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(served)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: listens(port), "the HTTP server listens")
            return _download(port, folder / "downloaded", digest_of(wanted.files["model.tflite"]))
        finally:
            server.terminate()


def listens(port: int) -> bool:
    """Return whether something accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _download(port: int, target: Path, sha256: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    began = time.perf_counter()
    connection.request("GET", "/model")
    answer, digest = connection.getresponse(), hashlib.sha256()
    with target.open("wb", buffering=0) as out:
        while piece := answer.read(CHUNK):
            digest.update(piece)
            out.write(piece)
    seconds = time.perf_counter() - began
    connection.close()
    assert digest.hexdigest() == sha256
    return seconds


def goodput(folder: Path, size: int, rounds: int) -> Iterator[Figure]:
    """Yield how fast the agent is beside mosquitto_sub and HTTP."""
    wanted, mib, found = made("goodput", size), size / MIB, Rounds()
    with running_broker(folder / "goodput-broker") as broker:
        client = HostClient(broker.port)
        until(client.client.is_connected, "the host is connected")
        host = HostStandIn(client)
        host.publish(wanted)
        client.flush()
        names = [topics.chunk("demo", digest) for digest in wanted.chunks]
        for _ in range(rounds):
            found.note("stream", mib / stream(broker.port, len(names), folder))
            found.note("retained", mib / retained(broker.port, names))
            found.note("kept", mib / kept(broker.port, len(names), folder))
            found.note("work", CHUNK / MIB / work_of_a_chunk(folder))
            found.note("HTTP", mib / http_download(folder, wanted))
            agent = fresh_agent(folder / "agent", broker.port)
            chunks, whole = install(agent, host, wanted)
            agent.end()
            found.note("agent", mib / chunks)
            found.note("whole", mib / whole)
        client.close()
    say(f"\nGoodput, {mib:.0f} MiB in chunks of 64 KiB, {rounds} rounds in turn:")
    found.table()
    for name in found.found:
        yield Figure(name=f"goodput: {name}", found=found.median(name), unit="MiB/s")
    for other in ("stream", "retained", "kept", "HTTP"):
        ratio, target = found.median("agent") / found.median(other), 0.7 if other == "stream" else None
        yield Figure(name=f"goodput: agent / {other}, medians", found=ratio, at_least=target)
        best = max(found.found["agent"]) / max(found.found[other])
        yield Figure(name=f"goodput: agent / {other}, best rounds", found=best, at_least=target)
    yield Figure(name="goodput: work / stream", found=found.median("work") / found.median("stream"))


# --- memory ---------------------------------------------------------------------------------------


def memory(folder: Path, sizes: tuple[int, ...]) -> Iterator[Figure]:
    """Yield how much the agent's peak resident memory grows over its idle one while it fetches, checks and stores."""
    say("\nMemory:")
    for size in sizes:
        wanted = made(f"memory {size}", size)
        with running_broker(folder / f"memory-broker-{size}") as broker:
            client = HostClient(broker.port)
            until(client.client.is_connected, "the host is connected")
            host = HostStandIn(client)
            host.publish(wanted)
            client.flush()
            agent = fresh_agent(folder / "agent", broker.port)
            idle = agent.memory("VmRSS")
            install(agent, host, wanted)
            peak = agent.memory("VmHWM")
            agent.end()
            client.close()
        say(f"  {size // MIB:3} MiB: idle {idle / MIB:.1f}, peak {peak / MIB:.1f} MiB")
        yield Figure(name=f"growth of RSS, {size // MIB} MiB", found=(peak - idle) / MIB, unit="MiB", at_most=16)


# --- the whole ------------------------------------------------------------------------------------


def machine() -> list[str]:
    """Return what the figures are taken on."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    version = subprocess.run([mosquitto() or "mosquitto", "-h"], check=False, capture_output=True, text=True).stdout
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        f"{cpu.group(1) if cpu else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        f"{version.splitlines()[0]}, Python {platform.python_version()}, paho-mqtt {paho_version}",
        f"load before: {load} (other work on the machine makes the figures smaller and noisier)",
    ]


def deltas(folder: Path) -> Iterator[Figure]:
    """Yield what the second of two trainings takes where devices have the first, as a share of the whole file."""
    found = pairs.pairs(folder)
    say("\nDeltas, in bytes:\n" + pairs.table(found))
    for pair in found:
        yield Figure(name=f"delta: {pair.variant}", found=pair.chosen_bytes / pair.plain, unit="blobs", at_most=1.0)
        name = f"bytes leaving the publisher, second version, {pair.variant} (sum of what is published)"
        yield Figure(name=name, found=pair.sent_bytes / pair.plain, unit="blobs", at_most=1.05)
        best = min(pair.plain, pair.zstd, pair.bsdiff, pair.patch_from)
        yield Figure(name=f"delta / best of the others: {pair.variant}", found=pair.chosen_bytes / best)


def main() -> int:
    """Run everything, or a part of it; return 1 if a target was missed."""
    parser = argparse.ArgumentParser(description="Benchmark of the delivery.")
    parser.add_argument("parts", nargs="*", help="goodput, fan-out, memory, deltas; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if mosquitto() is None or shutil.which("mosquitto_sub") is None:
        sys.exit("error: needs mosquitto, mosquitto_sub and mosquitto_pub (Debian: mosquitto mosquitto-clients)")
    with tempfile.TemporaryDirectory(prefix="edgepick-bench-") as name:
        folder = Path(name)
        parts: dict[str, Callable[[], Iterator[Figure]]] = {
            "goodput": lambda: goodput(folder, 64 * MIB, options.rounds),
            "fan-out": lambda: fan_out(folder, 2 * MIB, (1, 10, 50), running_broker, say),
            "memory": lambda: memory(folder, (64 * MIB, 256 * MIB)),
            "deltas": lambda: deltas(folder / "deltas"),
        }
        ran_on = machine()
        say("\n".join(ran_on))
        figures = [figure for part in options.parts or parts for figure in parts[part]()]
    print(as_json(ran_on, figures) if options.json else "\n".join((*ran_on, as_table(figures))))
    return 1 if any(figure.reached is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
