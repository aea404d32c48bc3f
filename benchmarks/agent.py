"""Show what the agent adds to the runtimes, what it holds in memory, and that nothing is lost: one run, side by side.

    PYTHONPATH=tests python benchmarks/agent.py [--quick] [--json] [--part loop ...]

Every figure stands beside its target; the exit code is 1 if one is missed. ``--quick`` measures briefly, for CI: it
shows that everything works; its figures are rough, so only what has to be zero decides about the exit code. On a busy
machine latencies of both sides grow, and with them what the socket adds; ratios stay comparable.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import agent_latency
import agent_load
import agent_shadow
import agent_start
import footprint
from agent_latency import Effort

from edgepick_host.demo.broker import running_broker
from integration.whole_system import DATA, PROFILE, SHIPPED, Device, Host, run, until

DIGITS = DATA / "digits.tflite"
MIB = footprint.MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure beside its target; without one it is for information."""

    name: str
    found: float
    unit: str
    target: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether it is at most the target."""
        return None if self.target is None else self.found <= self.target


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How thorough a run is."""

    loop: Effort
    socket: Effort
    own_seconds: float
    own_rounds: int
    clients_seconds: float
    requests: int
    swaps: int
    watched: footprint.Protocol
    starts: int


FULL = Size(
    loop=Effort(processes=5, pairs=20, block_seconds=0.5),
    socket=Effort(processes=3, pairs=20, block_seconds=0.5),
    own_seconds=3.0,
    own_rounds=5,
    clients_seconds=10.0,
    requests=10_000,
    swaps=20,
    watched=footprint.FULL,
    starts=10,
)
QUICK = Size(
    loop=Effort(processes=1, pairs=5, block_seconds=0.1),
    socket=Effort(processes=1, pairs=5, block_seconds=0.1),
    own_seconds=0.5,
    own_rounds=1,
    clients_seconds=1.0,
    requests=400,
    swaps=2,
    watched=footprint.SHORT,
    starts=1,
)


def loop(size: Size) -> Iterator[Row]:
    """Yield how the runner's own loop compares with the bare runtime."""
    with tempfile.TemporaryDirectory() as folder:
        slow = agent_latency.conv_net(Path(folder) / "conv.onnx")
        for name, model in (("demo model, LiteRT", DIGITS), ("conv net, ONNX Runtime", slow)):
            pair = agent_latency.loop_against_bare(model, size.loop)
            note = f"p50 {pair.ours * 1e3:.3f} ms, bare {pair.bare * 1e3:.3f} ms"
            yield Row(name=f"runner's loop / bare: {name}", found=pair.ratio, unit="x", target=1.02, note=note)


def socket(size: Size) -> Iterator[Row]:
    """Yield what the Unix socket adds."""
    with tempfile.TemporaryDirectory() as folder:
        for side, target in ((32, 0.5), (224, 1.5)):
            model = agent_latency.averaging_net(Path(folder) / f"{side}.onnx", side)
            pair = agent_latency.socket_against_bare(model, size.socket)
            note = f"p50 {pair.ours * 1e3:.3f} ms, bare {pair.bare * 1e3:.3f} ms"
            name = f"socket - bare: {side}x{side}x3 float32"
            yield Row(name=name, found=pair.added * 1e3, unit="ms", target=target, note=note)


def own(size: Size) -> Iterator[Row]:
    """Yield what our benchmark says beside the runtimes' own tools."""
    with tempfile.TemporaryDirectory() as folder:
        slow = agent_latency.conv_net(Path(folder) / "conv.onnx")
        for name, model in (("demo model", DIGITS), ("conv net", slow)):
            ours, theirs, tool = agent_latency.own_and_theirs(model, seconds=size.own_seconds, rounds=size.own_rounds)
            mine, other = statistics.median(ours) * 1e3, statistics.median(theirs) * 1e3
            yield Row(name=f"edgepick-agent benchmark: {name}", found=mine, unit="ms", note="median of p50")
            yield Row(name=f"{tool}: {name}", found=other, unit="ms", note="median of medians")


def clients(size: Size) -> Iterator[Row]:
    """Yield what eight clients at once get."""
    shares = agent_load.at_once(size.clients_seconds)
    note = f"{sum(shares.answered)} requests, {shares.per_second:.0f}/s, p50 {shares.p50 * 1e3:.2f} ms"
    yield Row(name="8 clients at once: errors", found=len(shares.errors), unit="", target=0, note=note)
    spread = f"Jain's index {shares.jain:.4f}, p99 {shares.p99 * 1e3:.2f} ms"
    yield Row(name="8 clients: most / least", found=max(shares.answered) / min(shares.answered), unit="x", note=spread)


def shadow(size: Size) -> Iterator[Row]:
    """Yield what clients notice of a shadow, and what two runners without one differ in."""
    with tempfile.TemporaryDirectory() as folder:
        slow = agent_latency.conv_net(Path(folder) / "conv.onnx")
        for name, model, percent in (("demo model", DIGITS, 10), ("demo model", DIGITS, 100), ("conv net", slow, 10)):
            found = agent_shadow.beside_a_shadow(model, percent * 10, size.socket)
            seen = found.seen
            note = f"noise {found.noise:.3f} x, p95 {found.p95_ratio:.3f} x, alone p50 {found.alone * 1e3:.3f} ms"
            counts = f"{seen.drawn} drawn, {seen.dropped} dropped, {seen.compared} compared"
            yield Row(name=f"shadowed / alone: {name}, {percent} %", found=found.p50_ratio, unit="x", note=note)
            yield Row(
                name=f"shadow: dropped of drawn, {percent} %",
                found=seen.dropped / max(1, seen.drawn),
                unit="",
                note=counts,
            )


def swaps(size: Size) -> Iterator[Row]:
    """Yield what clients lose when the active variant changes."""
    tally = agent_load.swaps_under_load(size.requests, size.swaps)
    note = f"{tally.answered} requests of 4 clients, {size.swaps} swaps {'; '.join(tally.failed[:1])}"
    yield Row(name="hot swap: requests lost", found=len(tally.failed), unit="", target=0, note=note)
    yield Row(name="hot swap: answers wrong", found=tally.wrong, unit="", target=0)


def memory(size: Size) -> Iterator[Row]:
    """Yield what the agent holds, idle and with a model, beside a bare interpreter process."""
    with tempfile.TemporaryDirectory() as temporary, running_broker(Path(temporary) / "broker") as broker:
        (folder := Path(temporary) / "host").mkdir()
        host = Host(folder, f"mqtt://127.0.0.1:{broker.port}")
        device = Device(Path(temporary), host)
        device.configure(pace=SHIPPED)
        device.start()
        try:
            until(lambda: device.status().broker == "connected", "the agent is connected")
            idle = footprint.watch([device.pid], size.watched)
            note = footprint.line("", idle).strip()
            yield Row(name="agent idle, RSS p95", found=idle.rss_p95 / MIB, unit="MiB", target=30, note=note)
            yield Row(name="agent idle, share of a core", found=idle.core_share * 100, unit="%", target=0.2)
            bare = footprint.watch_bare(DIGITS, size.watched)
            _serve_demo(host, device)
            runner = device.runner()
            assert runner is not None
            assert runner.pid is not None
            both = footprint.watch([device.pid, runner.pid], size.watched)
            note = f"PSS; ours {footprint.line('', both).strip()}; bare {footprint.line('', bare).strip()}"
            added = (both.pss_median - bare.pss_median) / MIB
            yield Row(name="agent + runner - bare process", found=added, unit="MiB", target=32, note=note)
            yield Row(name="agent + runner, nobody asks, share of a core", found=both.core_share * 100, unit="%")
        finally:
            device.end()


def _serve_demo(host: Host, device: Device) -> None:
    """Return once the device serves the demo's model, published as people do."""
    out = host.folder / "variants"
    taken = ("--calibration", DATA / "calibration.npz", "--evaluation", DATA / "evaluation.npz", "--recipe", "float32")
    done = run(
        "edgepick_host", "compress", DIGITS, "--name", "digits", "--profile", PROFILE, "--out", out, *taken,
        folder=host.folder,
    )  # fmt: skip
    assert done.code == 0, done.err
    manifest = host.publish(out, "--no-measure", "--variant", "float32-tflite")["variants"][0]["manifest"]
    until(lambda: device.confirmed(manifest), "the model is confirmed")
    until(device.runner, "the model serves")


def starting(size: Size) -> Iterator[Row]:
    """Yield how long an agent takes from its start to its readiness."""
    with tempfile.TemporaryDirectory() as temporary, running_broker(Path(temporary) / "broker") as broker:
        command = agent_start.agent_command(Path(temporary), broker.port)
        found = [agent_start.start(command, Path(temporary))[0] for _ in range(size.starts + 1)][1:]
    note = f"median of {len(found)}, {min(found):.3f} to {max(found):.3f} s"
    yield Row(name="agent: start to ready", found=statistics.median(found), unit="s", target=1.0, note=note)


PARTS: dict[str, Callable[[Size], Iterator[Row]]] = {
    each.__name__: each for each in (loop, socket, own, clients, shadow, swaps, starting, memory)
}


def machine() -> dict[str, object]:
    """Return what ran it."""
    processors = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": processors[0].partition(":")[2].strip() if processors else platform.machine(),
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def shown(row: Row) -> str:
    """Return one line of the table."""
    target = "" if row.target is None else f"<= {row.target:g} {row.unit}"
    verdict = {None: "", True: "yes", False: "NO"}[row.reached]
    return f"{row.name:<48}{row.found:>10.3f} {row.unit:<4}{target:>12} {verdict:<4} {row.note}"


def main() -> int:
    """Run the benchmark and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="measure briefly, for CI")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this; may be repeated")
    chosen = parser.parse_args()
    size, rows, ran_on = QUICK if chosen.quick else FULL, [], machine()
    print(", ".join(f"{key} {value}" for key, value in ran_on.items()), file=sys.stderr, flush=True)
    print(f"{'':<48}{'found':>10} {'':<4}{'target':>12} reached", file=sys.stderr)
    for name in chosen.part or PARTS:
        for row in PARTS[name](size):
            rows.append(row)
            print(shown(row), file=sys.stderr if chosen.json else sys.stdout, flush=True)
    if chosen.json:
        listed = [{**asdict(row), "reached": row.reached} for row in rows]
        print(json.dumps({"machine": ran_on, "quick": chosen.quick, "rows": listed}, indent=2))
    return 1 if any(row.reached is False for row in rows if row.target == 0 or not chosen.quick) else 0


if __name__ == "__main__":
    sys.exit(main())
