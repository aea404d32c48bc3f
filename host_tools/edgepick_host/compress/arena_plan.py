"""Which tensors a microcontroller holds at once: the head of its arena and the peak in it, from the graph alone.

tflite-micro keeps a tensor from the operator that writes it to the last one that reads it; inputs live from the
start, outputs to the end. Its planner takes the largest first, of equal ones the later, and puts each in the lowest
gap between those that live at the same time, in multiples of 16 bytes. That leaves gaps: the head may be larger than
the tensors that ever live at once. Kernels' own scratch buffers, and what stays for good (the arena's tail), are not in
it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepick_host.compress import tflite_file
from edgepick_host.core.verify import ArenaPeak, TensorBytes

ALIGNMENT = 16
"""Of buffers in tflite-micro's arena, bytes."""

_WHERE = Path("model.tflite")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Life:
    """A computed tensor: from which operator on it is there, and up to which; its size is a multiple of 16.

    Attributes:
        index: Its number in the graph.
        exact_bytes: Its size before alignment.
    """

    name: str
    index: int
    exact_bytes: int
    size_bytes: int
    first: int
    last: int


def arena_peak(model: bytes) -> ArenaPeak:
    """Return where the main graph needs most of the arena, and the tensors that are there then, largest first.

    Raises:
        InputFileError: Not a ``.tflite`` model.
    """
    parsed = tflite_file.read(model, _WHERE)
    graph = parsed.subgraphs[0]
    ends = _placed(list(_lives(parsed, graph)))
    head = max(ends.values())
    highest = [life for life, end in ends.items() if end == head]
    numbers = {number for life in highest for number in range(life.first, life.last + 1)}
    alive = {number: [life for life in ends if life.first <= number <= life.last] for number in sorted(numbers)}
    peak = max(alive, key=lambda number: sum(life.size_bytes for life in alive[number]))
    here = sorted(alive[peak], key=lambda life: (-life.size_bytes, life.first))
    return ArenaPeak(
        operator=tflite_file.operator_name(parsed, graph.operators[peak]),
        number=peak,
        live_bytes=sum(life.size_bytes for life in here),
        head_bytes=head,
        tensors=tuple(TensorBytes(name=life.name, size_bytes=life.exact_bytes) for life in here),
    )


def _placed(lives: list[_Life]) -> dict[_Life, int]:
    """Return where each tensor ends in the arena, placed as tflite-micro's greedy planner does."""
    ends: dict[_Life, int] = {}
    for life in sorted(lives, key=lambda life: (-life.size_bytes, -life.index)):
        start = 0
        taken = sorted((end - other.size_bytes, end) for other, end in ends.items() if _meet(life, other))
        for begin, end in taken:
            if start + life.size_bytes <= begin:
                break
            start = max(start, end)
        ends[life] = start + life.size_bytes
    return ends


def _meet(one: _Life, other: _Life) -> bool:
    return one.first <= other.last and other.first <= one.last


def _lives(model: Any, graph: Any) -> Iterator[_Life]:
    """Yield every tensor that the arena holds at some time."""
    end = len(graph.operators) - 1
    first = {int(index): 0 for index in graph.inputs}
    last = {int(index): end for index in graph.outputs}
    for number, operator in enumerate(graph.operators):
        for index in operator.outputs:
            first.setdefault(int(index), number)
        for index in _read(operator):
            last[index] = max(number, last.get(index, 0))
    for index, begin in first.items():
        tensor = graph.tensors[index]
        if tflite_file.constant_bytes(model, tensor) is None:
            size = _size(tensor)
            yield _Life(
                name=tflite_file.tensor_name(tensor),
                index=index,
                exact_bytes=size,
                size_bytes=-(-size // ALIGNMENT) * ALIGNMENT,
                first=begin,
                last=max(begin, last.get(index, begin)),
            )


def _read(operator: Any) -> list[int]:
    return [int(index) for index in operator.inputs if index >= 0] if operator.inputs is not None else []


def _size(tensor: Any) -> int:
    width = np.dtype(tflite_file.tensor_type(tensor).replace("bool", "bool_")).itemsize
    sizes = [] if tensor.shape is None else [abs(int(size)) for size in tensor.shape]
    return int(np.prod(sizes, dtype=np.int64)) * width
