"""What tflite-micro says about a model: does it run, in how small an arena, and does it answer as LiteRT does."""

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from edgepick_host.compress.arena_plan import arena_peak
from edgepick_host.compress.dataset import Array, Dataset
from edgepick_host.compress.predictor import TflitePredictor
from edgepick_host.compress.tflm_child import SHORTAGE_CODE
from edgepick_host.core.model_facts import TensorFacts
from edgepick_host.core.verify import ArenaFacts
from edgepick_host.errors import MissingExtraError

TIMEOUT_SECONDS = 300.0
_COUNTED = re.compile(r"Arena allocation (total|head) (\d+) bytes")
_NOISE = re.compile(r"Failed to resize buffer|RecordingMicroAllocator|Traceback|^\s|RuntimeError|^$")


def measure_arena(model: bytes, golden: Dataset, inputs: tuple[TensorFacts, ...]) -> ArenaFacts:
    """Return what tflite-micro found by running ``model`` on the golden samples in a child process.

    Args:
        model: A ``.tflite`` file's bytes.
        golden: Samples to answer.
        inputs: The float model's inputs.

    Raises:
        MissingExtraError: tflite-micro is not installed.
    """
    if find_spec("tflite_micro") is None:
        raise MissingExtraError(
            "microcontroller profiles need tflite-micro to measure the arena", hint="pip install 'edgepick[compress]'"
        )
    reference = TflitePredictor(model, reference=True)
    samples = list(golden.samples(inputs))
    with tempfile.TemporaryDirectory(prefix="edgepick-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(model)
        columns = zip(*(reference.quantized(sample) for sample in samples), strict=True)
        arrays = {f"input_{i}": np.concatenate(column) for i, column in enumerate(columns)}
        expected = [np.concatenate(column) for column in zip(*map(reference.run_raw, samples), strict=True)]
        arrays["outputs"] = np.array(len(expected))
        np.savez(folder / "inputs.npz", **arrays)  # type: ignore[arg-type]  # its stub has no type for arrays by name
        code, complaints = _run_child(folder)
        if code != 0:
            # Whatever killed it may not be there the next time.
            return ArenaFacts(failure=_failure(code, complaints), lasting=code > 0 and code != SHORTAGE_CODE)
        with np.load(folder / "result.npz") as result:
            arena_bytes = int(result["arena_bytes"])
            steps = max(_difference(result[f"output_{i}"], column) for i, column in enumerate(expected))
    counted = {part: int(size) for part, size in _COUNTED.findall(complaints)}
    return ArenaFacts(
        arena_bytes=arena_bytes,
        recorded_bytes=counted.get("total", 0),
        head_bytes=counted.get("head", 0),
        peak=arena_peak(model),
        max_lsb=steps,
    )


def _difference(found: Array, expected: Array) -> int:
    return int(np.abs(found.astype(np.int64) - expected.astype(np.int64)).max())


def _run_child(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "edgepick_host.compress.tflm_child"]
    files = [str(folder / name) for name in ("model.tflite", "inputs.npz", "result.npz")]
    paths = os.pathsep.join(path for path in sys.path if path)
    try:
        done = subprocess.run(
            [*command, *files],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            env={**os.environ, "PYTHONPATH": paths},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"no answer within {TIMEOUT_SECONDS:.0f} s"
    return done.returncode, done.stderr


def _failure(code: int, complaints: str) -> str:
    """Return the most telling line of what the child said."""
    lines = [line.strip() for line in complaints.splitlines() if not _NOISE.search(line)]
    if lines:
        return lines[0]
    return f"its process was killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
