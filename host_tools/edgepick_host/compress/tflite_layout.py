"""Where the constants of a ``.tflite`` file lie, so that two files of one model can be laid side by side."""

import struct

from edgepick_host.core.delta import Tensor

MAGIC = b"TFL3"
SIZES = {"FLOAT16": 2, "INT16": 2, "UINT16": 2, "BFLOAT16": 2, "FLOAT32": 4, "INT32": 4, "UINT32": 4}
"""Bytes of one number; everything else is taken byte by byte."""
DATA_FIELD = 4
"""Where a ``Buffer`` table's vtable names its ``data`` (the first field of every FlatBuffer table)."""


def find_tensors(data: bytes) -> tuple[Tensor, ...]:
    """Return the constants inside of the FlatBuffer; none for anything that is not a sound ``.tflite`` file."""
    if data[4:8] != MAGIC:
        return ()
    from ai_edge_litert import schema_py_generated as schema

    try:
        return _tensors(schema, data)
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, KeyError, OverflowError):
        return ()


def _tensors(schema: object, data: bytes) -> tuple[Tensor, ...]:
    model = schema.Model.GetRootAs(data, 0)  # type: ignore[attr-defined]
    kinds = {v: k for k, v in vars(schema.TensorType).items() if not k.startswith("_")}  # type: ignore[attr-defined]
    found: dict[int, Tensor] = {}
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            buffer = model.Buffers(tensor.Buffer())
            place = _place(buffer, len(data))
            if place is not None:
                name = (tensor.Name() or b"").decode(errors="replace")
                found[tensor.Buffer()] = Tensor(name, *place, SIZES.get(kinds[tensor.Type()], 1))
    return tuple(found.values())


def _place(buffer: object, size: int) -> tuple[int, int] | None:
    """Return offset and length of a buffer's bytes."""
    table = buffer._tab  # type: ignore[attr-defined]  # noqa: SLF001 - the generated code has no public way
    field = table.Offset(DATA_FIELD)
    if not field:
        return None
    start, length = table.Vector(field), table.VectorLen(field)
    return (start, length) if length and 0 <= start <= size - length else None
