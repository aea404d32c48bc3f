"""Runs one model in tflite-micro in a process of its own: a crash there is a finding, not the end.

``python -m edgepick_host.compress.tflm_child MODEL INPUTS.npz RESULT.npz``: INPUTS holds ``input_<i>`` of ``[n, ...]``
in the model's own types, and ``outputs``, their number. RESULT gets ``output_<i>`` of ``[n, ...]`` and ``arena_bytes``.
What the recording allocator counted goes to standard error, and so do the interpreter's complaints. It ends with
:data:`SHORTAGE_CODE` where the machine fails it, which says nothing of the model.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

GRANULE_BYTES = 16
"""The arena's alignment in tflite-micro."""

LARGEST_ARENA_BYTES = 1 << 28

SHORTAGE_CODE = 75
"""Memory or the disk was short: ``EX_TEMPFAIL`` of ``sysexits.h``."""


def main(model_path: Path, inputs_path: Path, result_path: Path) -> None:
    """Write the answers and the smallest arena; raises what the interpreter raises."""
    model = model_path.read_bytes()
    with np.load(inputs_path) as archive:
        count = int(archive["outputs"])
        columns = [archive[f"input_{i}"] for i in range(len(archive.files) - 1)]
    roomy = min(LARGEST_ARENA_BYTES, 10 * len(model) + (1 << 24))
    interpreter = open_interpreter(model, roomy)
    answers = [_answer(interpreter, [column[i : i + 1] for column in columns], count) for i in range(len(columns[0]))]
    outputs = {f"output_{i}": np.concatenate(column) for i, column in enumerate(zip(*answers, strict=True))}
    interpreter.print_allocations()
    sys.stderr.flush()
    smallest = smallest_arena(model, [column[:1] for column in columns], roomy)
    np.savez(result_path, arena_bytes=np.int64(smallest), **outputs)  # type: ignore[arg-type]  # its stub knows no arrays by name


def open_interpreter(model: bytes, arena_bytes: int) -> Any:
    """Return tflite-micro's interpreter with an arena of this size."""
    from tflite_micro import runtime

    return runtime.Interpreter.from_bytes(model, arena_size=arena_bytes)


def _answer(interpreter: Any, sample: list[Any], outputs: int) -> list[Any]:
    for i, array in enumerate(sample):
        interpreter.set_input(array, i)
    interpreter.reset()  # a recurrent layer would remember the sample before
    interpreter.invoke()
    return [interpreter.get_output(i) for i in range(outputs)]


def smallest_arena(model: bytes, sample: list[Any], enough: int) -> int:
    """Return the smallest arena, in steps of its alignment, in which the model loads and runs."""
    low, high = 0, -(-enough // GRANULE_BYTES)
    while high - low > 1:
        middle = (low + high) // 2
        if _runs(model, sample, middle * GRANULE_BYTES):
            high = middle
        else:
            low = middle
    return high * GRANULE_BYTES


def _runs(model: bytes, sample: list[Any], arena_bytes: int) -> bool:
    """Return whether it runs, found out in a fork: in a tight arena the interpreter may crash instead of refusing."""
    pid = os.fork()
    if pid == 0:
        try:
            _answer(open_interpreter(model, arena_bytes), sample, 1)
        except RuntimeError:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code in {SHORTAGE_CODE, -signal.SIGKILL}:
        raise MemoryError("a trial in a smaller arena was stopped from outside")
    return code == 0


if __name__ == "__main__":
    try:
        main(*(Path(argument) for argument in sys.argv[1:4]))
    except (OSError, MemoryError) as shortage:
        sys.stderr.write(f"{type(shortage).__name__}: {shortage}\n")
        sys.exit(SHORTAGE_CODE)
