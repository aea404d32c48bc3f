"""Decoding in a short-lived process, and which algorithms this installation has the packages for."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from edgepick_agent.ports import UndecodedError
from edgepick_wire.manifest import ALIGNED, BSDIFF, ZSTD

READ_BYTES = 256 * 1024
END_SECONDS = 30.0
NEEDS = {ZSTD: ("zstandard",), ALIGNED: ("zstandard", "numpy"), BSDIFF: ("numpy",)}
"""Algorithm -> packages beside the standard library."""


def algorithms() -> frozenset[str]:
    """Return what can be decoded here; nothing is imported for it."""
    there = {name for names in NEEDS.values() for name in names if importlib.util.find_spec(name) is not None}
    return frozenset(algorithm for algorithm, names in NEEDS.items() if there.issuperset(names))


def decode(algorithm: str, size: int, encoded: Path, base: Path | None) -> Iterator[bytes]:
    """Yield a file's content in pieces; the process is gone when this ends, however it ends.

    Raises:
        UndecodedError: The process said that the input is wrong, or it died.
    """
    command = [sys.executable, "-m", "edgepick_agent.decode", algorithm, str(size), str(encoded)]
    packages = str(Path(__file__).parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH")))),
        "OPENBLAS_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        [*command, *([str(base)] if base else [])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        try:
            yield from _output(process)
        finally:
            process.kill()


def _output(process: "subprocess.Popen[bytes]") -> Iterator[bytes]:
    assert process.stdout is not None
    assert process.stderr is not None
    while piece := process.stdout.read(READ_BYTES):
        yield piece
    said = process.stderr.read(2000).decode(errors="replace").strip()
    if process.wait(END_SECONDS) != 0:
        raise UndecodedError(said.rpartition("\n")[2] or f"the decoder ended with {process.returncode}")
