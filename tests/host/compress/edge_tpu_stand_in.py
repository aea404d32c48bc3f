"""A stand-in for ``edgetpu_compiler``: a script of that name that prints what the real one prints. It compiles nothing.

What it writes is a model with the real one's custom operator, followed by the file that it was given.
"""

import shlex
from pathlib import Path

import numpy as np
import tiny_models
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

VERSION = "16.0.384591198"
BANNER = f"Edge TPU Compiler version {VERSION}"

REPORT = f"""\
{BANNER}
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 12 ms.

Input model: model.tflite
Input size: 4.04KiB
Output model: model_edgetpu.tflite
Output size: 12.13KiB
On-chip memory used for caching model parameters: 604.50KiB
On-chip memory remaining for caching model parameters: 7.00MiB
Off-chip memory used for streaming uncached model parameters: {{streamed}}
Number of Edge TPU subgraphs: 1
Total number of operations: 5
Operation log: model_edgetpu.log

"""

TABLE = """\
Operator                       Count      Status

CONV_2D                        2          Mapped to Edge TPU
ADD                            1          Mapped to Edge TPU
MEAN                           1          {mean}
FULLY_CONNECTED                1          Mapped to Edge TPU
"""

END = """\
Compilation child process completed within timeout period.
Compilation succeeded!
"""

WHOLE = REPORT.format(streamed="0.00B") + TABLE.format(mean="Mapped to Edge TPU") + END
PARTIAL = REPORT.format(streamed="1.50KiB") + TABLE.format(mean="Operation version not supported") + END


def compiled_model() -> bytes:
    """Return a ``.tflite`` file whose one operator is the compiler's."""
    builder = tiny_models.TfliteBuilder()
    x = builder.tensor("x", [1, 8, 8, 2])
    y = builder.tensor("y", [1, 5])
    builder.operator("RESHAPE", [x], y, schema.ReshapeOptionsT(), "ReshapeOptions")
    code = builder.model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "edgetpu-custom-op"
    operator = builder.graph.operators[0]
    operator.builtinOptions, operator.builtinOptionsType = None, schema.BuiltinOptions.NONE
    operator.customOptions = np.zeros(8, np.uint8)
    builder.graph.inputs, builder.graph.outputs = [x], [y]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(builder.model))


def install(folder: Path, body: str = "", *, log: str = WHOLE, calls: Path | None = None) -> Path:
    """Return the script, ready to be found on ``PATH``.

    Args:
        folder: Where it goes.
        body: Shell commands instead of writing the compiled file.
        log: What it prints first.
        calls: Gets one line for each model that it is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compiled.tflite").write_bytes(compiled_model())
    (folder / "log.txt").write_text(log)
    here = shlex.quote(str(folder))
    note = f'echo "$@" >> {shlex.quote(str(calls))}' if calls else ":"
    write = f"cat {here}/compiled.tflite model.tflite > model_edgetpu.tflite"
    script = folder / "edgetpu_compiler"
    lines = ["#!/bin/sh", f'if [ "$1" = --version ]; then echo "{BANNER}"; exit 0; fi', note, f"cat {here}/log.txt"]
    script.write_text("\n".join([*lines, body or write]) + "\n")
    script.chmod(0o755)
    return script
