"""Print how long an agent without models takes to start, and what it holds in memory.

    python benchmarks/agent_start.py [--runs 10]

Side by side in one run: the agent, from the start of its process to READY=1 (the notification that systemd
waits for) and its resident set once connected and idle; and what one would write instead, a bare paho-mqtt client with
PyNaCl, from the start of its process to its connection. Both talk to a broker on this machine.
"""

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepick_host import app
from edgepick_host.demo.broker import running_broker

READY_SECONDS = 20.0
IDLE_SECONDS = 2.0

BARE_CLIENT = """
import os, socket, sys, threading
import nacl.signing
import paho.mqtt.client as paho
client = paho.Client(paho.CallbackAPIVersion.VERSION2)
client.on_connect = lambda *_: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(
    b"READY=1", os.environ["NOTIFY_SOCKET"])
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"""


@contextmanager
def notifications(folder: Path) -> Iterator[socket.socket]:
    """Provide the socket that a process reports its readiness to."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = folder / "notify"
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        listening.settimeout(READY_SECONDS)
        yield listening


def start(command: list[str], folder: Path) -> tuple[float, int]:
    """Return the seconds from the start of ``command`` to READY=1, and its idle RSS in bytes."""
    with notifications(folder) as listening:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, "NOTIFY_SOCKET": str(folder / "notify")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while b"READY=1" not in listening.recv(4096):
                pass
            seconds = time.perf_counter() - began
            time.sleep(IDLE_SECONDS)
            return seconds, rss_bytes(process.pid)
        finally:
            process.terminate()
            process.wait(10)


def rss_bytes(pid: int) -> int:
    """Return the resident set of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def agent_command(folder: Path, port: int) -> list[str]:
    """Return the command of an agent of its own, set up in ``folder``."""
    keys = folder / "keys"
    if not keys.exists():
        app.create_keys(keys, "bench", config=None)
    config = folder / "agent.toml"
    config.write_text(
        'device = "bench-1"\nfleet = "bench"\nprofile = "generic-linux"\nstand_in = true\n'
        'state_dir = "state"\nroot_document = "keys/root.signed"\n'
        f'[broker]\nhost = "127.0.0.1"\nport = {port}\n'
    )
    return [sys.executable, "-m", "edgepick_agent", "run", "--config", str(config)]


def report(name: str, found: list[tuple[float, int]]) -> None:
    """Print one line: median and range of the start, and the largest memory."""
    seconds = [s for s, _ in found]
    memory = max(rss for _, rss in found) / 2**20
    print(
        f"{name:<24}{statistics.median(seconds):>8.3f} s  ({min(seconds):.3f} to {max(seconds):.3f}){memory:>8.1f} MiB"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with running_broker(folder / "broker") as broker:
            ours = agent_command(folder, broker.port)
            bare = [sys.executable, "-c", BARE_CLIENT, str(broker.port)]
            pairs = [(start(ours, folder), start(bare, folder)) for _ in range(runs + 1)][1:]  # the first fills caches
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(f"{'':<24}{'start to ready':>8} (range)          idle RSS, largest of {runs} runs")
    report("edgepick-agent", [pair[0] for pair in pairs])
    report("bare paho + PyNaCl", [pair[1] for pair in pairs])


if __name__ == "__main__":
    main()
