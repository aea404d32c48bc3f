"""Under load: eight clients at once, and an active variant that changes while four clients ask."""

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from agent_latency import Served, spec_of

from edgepick_agent.client import Client
from edgepick_host.demo import __file__ as demo_file
from fakes.swapping import Swapping, Tally, ask_while_swapping

DATA = Path(demo_file).parent / "data"
DIGITS = DATA / "digits.tflite"
CLIENTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What clients that ask at once got.

    Attributes:
        answered: Requests of each client.
        errors: What went wrong, in words.
        jain: Jain's index of fairness: 1 if all got the same, 1/n if one got everything.
        p50: Median latency in seconds.
        p99: 99th percentile.
        per_second: Requests per second, of all together.
    """

    answered: tuple[int, ...]
    errors: tuple[str, ...]
    jain: float
    p50: float
    p99: float
    per_second: float


def image() -> np.ndarray:
    """Return one image of the demo."""
    taken: np.ndarray = np.load(DATA / "evaluation.npz")["x"][:1].astype(np.float32)
    return taken


def at_once(seconds: float) -> Shares:
    """Return what eight clients get that ask a runner back to back for so long."""
    with tempfile.TemporaryDirectory() as folder, closing(Served(DIGITS, Path(folder))) as served:
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(CLIENTS) as pool:
            found = list(pool.map(lambda _: _ask(served.client(), end), range(CLIENTS)))
    times = sorted(taken for times, _ in found for taken in times)
    counts = [len(times) for times, _ in found]
    return Shares(
        answered=tuple(counts),
        errors=tuple(error for _, errors in found for error in errors),
        jain=sum(counts) ** 2 / (CLIENTS * sum(n * n for n in counts)),
        p50=statistics.median(times),
        p99=times[int(0.99 * len(times))],
        per_second=len(times) / seconds,
    )


def _ask(client: Client, end: float) -> tuple[list[float], list[str]]:
    times: list[float] = []
    errors: list[str] = []
    array = image()
    with client:
        while (began := time.monotonic()) < end and len(errors) < 10:
            try:
                client.infer(array)
            except Exception as error:  # noqa: BLE001 - whatever it is, it counts
                errors.append(f"{type(error).__name__}: {error}")
            times.append(time.monotonic() - began)
    return times, errors


def swaps_under_load(requests: int, swaps: int) -> Tally:
    """Return what four clients saw while runners took over from one another."""
    with tempfile.TemporaryDirectory() as temporary:
        (folder := Path(temporary) / "s").mkdir()
        swapping = Swapping(folder, spec_of(DIGITS))
        try:
            swapping.swap()
            with Client("bench", path=swapping.path) as client:
                expected = next(iter(client.infer({"image": image()}).values()))
            return ask_while_swapping(swapping, image(), expected, requests=requests, clients=4, swaps=swaps)
        finally:
            swapping.close()
