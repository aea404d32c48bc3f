"""Between numbers as the float model means them and tensors as a variant's file stores them.

q = round(real / scale) + zero_point, clipped to the type; real = (q - zero_point) x scale
(TensorFlow Lite 8-bit quantization specification). Tensors without a scale are cast.
"""

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgepick_agent.errors import InferenceError, InputError
from edgepick_agent.ports import Session, TensorSpec

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

SEED = 0
SPARE_BITS = 8
"""Of 32 drawn, so that the rest is a float32 without rounding, and less than 1."""


def to_tensor(real: "Array", spec: TensorSpec) -> "Array":
    """Return real values as the input tensor ``spec``: quantized if it is, cast otherwise.

    Raises:
        InputError: A value is not finite, or does not fit an integer input without scale.
    """
    if spec.dtype == "str" or real.dtype.kind not in "biuf":
        raise InputError(f"input {spec.name}: {real.dtype} for {spec.dtype}; only numbers can be given")
    if not np.all(np.isfinite(real)):
        raise InputError(f"input {spec.name}: holds NaN or infinity")
    dtype = np.dtype(spec.dtype)
    if spec.scale:
        limits = np.iinfo(spec.dtype)
        steps = np.rint(real.astype(np.float64) / spec.scale) + spec.zero_point
        quantized: Array = np.clip(steps, limits.min, limits.max).astype(dtype)
        return quantized
    if np.issubdtype(dtype, np.integer):
        _check_range(real, spec)
        return np.rint(real).astype(dtype)
    return real.astype(dtype)


def _check_range(real: "Array", spec: TensorSpec) -> None:
    limits = np.iinfo(spec.dtype)
    if real.size and (real.min() < limits.min or real.max() > limits.max):
        raise InputError(
            f"input {spec.name}: values from {real.min()} to {real.max()} do not fit {spec.dtype},"
            f" which has {limits.min} to {limits.max}"
        )


def to_real(tensor: "Array", spec: TensorSpec) -> "Array":
    """Return an output tensor as float32 values in the float model's scale."""
    if spec.scale:
        return ((tensor.astype(np.float64) - spec.zero_point) * spec.scale).astype(np.float32)
    return tensor.astype(np.float32)


def check_shapes(session: Session, outputs: Sequence["Array"]) -> None:
    """Raise ``InferenceError`` if an output has not the shape that the model declares.

    A model that declares no shape has promised none; where an input's size is open, an interpreter may tell an
    output's size for another one, so that only the number of dimensions counts.
    """
    open_inputs = any(size < 0 for spec in session.inputs for size in spec.shape)
    for spec, output in zip(session.outputs, outputs, strict=True):
        wanted = [-1] * len(spec.shape) if open_inputs else list(spec.shape)
        found = list(output.shape)
        if wanted and (len(found) != len(wanted) or any(w not in {-1, f} for w, f in zip(wanted, found, strict=True))):
            raise InferenceError(f"output {spec.name}: the model declares shape {list(spec.shape)}, found {found}")


def random_feed(inputs: tuple[TensorSpec, ...]) -> dict[str, "Array"]:
    """Return one seeded random feed: uniform 0..1 where real numbers go in, zeros for plain integers.

    Plain integers are indexes more often than not, and a random index is out of range. The dice are Python's: to
    import numpy's takes more memory than many a model, and would be counted as the model's.
    """
    dice = random.Random(SEED)
    return {spec.name: _random(dice, spec) for spec in inputs}


def _random(dice: random.Random, spec: TensorSpec) -> "Array":
    shape = tuple(size if size > 0 else 1 for size in spec.shape)
    if spec.scale or not np.issubdtype(np.dtype(spec.dtype), np.integer):
        drawn = np.frombuffer(dice.randbytes(4 * math.prod(shape)), "<u4") >> SPARE_BITS
        return to_tensor((drawn / 2 ** (32 - SPARE_BITS)).astype(np.float32).reshape(shape), spec)
    return np.zeros(shape, np.dtype(spec.dtype))
