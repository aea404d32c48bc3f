"""``python tests/fuzz/driver.py TARGET SECONDS``: hold one parser against inputs that nobody meant well.

With atheris (coverage decides which inputs are kept) where it is installed; without it, or with
``--blind``, the seeds are mutated at random, which finds less. Ends with 1 at a crash, an input
that takes longer than :data:`TIMEOUT_SECONDS`, or more than :data:`RSS_LIMIT_MB`. The input is then
left in the working directory as ``crash-*``, ``timeout-*`` or ``oom-*``; run it again with
``python tests/fuzz/driver.py TARGET FILE``.
"""

import importlib
import random
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RSS_LIMIT_MB = 512
TIMEOUT_SECONDS = 10
INPUT_MAX_BYTES = 16 * 1024
TARGETS = Path(__file__).parent / "targets"


def names() -> list[str]:
    """Return the parsers that there is a target for."""
    return sorted(path.stem for path in TARGETS.glob("*.py"))


def target(name: str) -> Any:
    """Return the module of one target: ``SEEDS`` and ``one(data)``."""
    return importlib.import_module(f"fuzz.targets.{name}")


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    """Return a seed with a few bytes changed, removed, repeated, or taken from another seed."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        at, length = chance.randint(0, len(data)), chance.randint(0, 16)
        match chance.randint(0, 4):
            case 0:
                data[at : at + 1] = bytes([chance.randint(0, 255)])
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length] * chance.randint(1, 4)
            case 3:
                other = chance.choice(seeds)
                start = chance.randint(0, len(other))
                data[at:at] = other[start : start + length]
            case _:
                data[at : at + 1] = bytes([data[at] ^ (1 << chance.randint(0, 7))]) if at < len(data) else b"\0"
    return bytes(data[:INPUT_MAX_BYTES])


def blind(name: str, seconds: float) -> int:
    """Run random mutations for a time, and return how many there were."""
    made, seed = target(name), time.time_ns()
    chance, count, end = random.Random(seed), 0, time.monotonic() + seconds
    signal.signal(signal.SIGALRM, _too_slow)
    while time.monotonic() < end:
        data = mutated(chance, made.SEEDS)
        signal.alarm(TIMEOUT_SECONDS)
        try:
            made.one(data)
        except BaseException:
            Path(f"crash-{name}-{seed}").write_bytes(data)
            raise
        finally:
            signal.alarm(0)
        count += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    assert peak < RSS_LIMIT_MB, f"{peak} MB of memory"
    print(f"{name}: {count} executions without coverage, peak memory {peak} MB")  # noqa: T201
    return count


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"one input took longer than {TIMEOUT_SECONDS} s")


def guided(atheris: Any, name: str, seconds: int) -> None:
    """Let atheris choose the inputs by coverage for a time; ends the process."""
    with atheris.instrument_imports(include=["edgepick_wire", "edgepick_agent", "tarfile", "tomllib"]):
        made = target(name)
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(made.SEEDS):
            (Path(folder) / str(number)).write_bytes(seed)
        options = {
            "max_total_time": seconds,
            "rss_limit_mb": RSS_LIMIT_MB,
            "timeout": TIMEOUT_SECONDS,
            "max_len": INPUT_MAX_BYTES,
            "print_final_stats": 1,
            "verbosity": 1,
        }
        atheris.Setup([sys.argv[0], folder, *(f"-{key}={value}" for key, value in options.items())], made.one)
        atheris.Fuzz()


def main(arguments: list[str]) -> None:
    """Run one target for a time, or on one file."""
    name, what = arguments[0], arguments[1]
    if not what.isdecimal():
        target(name).one(Path(what).read_bytes())
        return
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None or "--blind" in arguments:
        blind(name, int(what))
    else:
        guided(atheris, name, int(what))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main(sys.argv[1:])
