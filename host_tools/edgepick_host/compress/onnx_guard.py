"""onnxruntime.quantization behind guards. Owns every call into it.

- It works on files: everything happens in a scratch folder, and what comes back is bytes.
- The model is prepared first (constants folded, BatchNorm fused, shapes inferred), as its documentation asks.
- ``quantize_dynamic`` turns Conv into an operator that ONNX Runtime does not optimise: the plan keeps graphs with
  convolutions away from it.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgepick_host.compress import onnx_file
from edgepick_host.compress.dataset import Array
from edgepick_host.compress.quiet import quiet
from edgepick_host.compress.step import StepContext
from edgepick_host.errors import CompressionError

SYMMETRIC_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "ForceQuantizeNoInputCheck": True,
    "DedicatedQDQPair": False,
}
"""TensorRT's explicit quantization: signed, every zero point 0, no int32 bias (NVIDIA ModelOpt's ``ort_utils.py``
asks ONNX Runtime for the same). Weights are stored as int8 with a DequantizeLinear only, not as float32 with a pair,
which would undo the compression."""

_WHERE = Path("model.onnx")


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
    """Hands calibration samples over one by one."""

    def __init__(self, samples: Iterator[dict[str, Array]]) -> None:
        self._samples = samples

    def get_next(self) -> dict[str, Array] | None:
        """Return the next sample, ``None`` at the end."""
        return next(self._samples, None)


def quantize_static(model: bytes, context: StepContext, *, symmetric: bool) -> bytes:
    """Return the model in int8 with per-channel weights and the least and largest values over all samples as ranges.

    Args:
        model: A float model.
        context: Whose calibration samples are used.
        symmetric: Every zero point 0 and no quantized bias, as TensorRT asks.

    Raises:
        CompressionError: ONNX Runtime cannot do it.
    """
    names = [tensor.name for tensor in context.source.inputs]
    samples = (dict(zip(names, s, strict=True)) for s in context.calibration.samples(context.source.inputs))

    def work(source: Path, target: Path) -> None:
        quantization.quantize_static(
            source,
            target,
            _Reader(samples),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options=dict(SYMMETRIC_OPTIONS) if symmetric else {},
        )

    return _in_folder(model, work, prepare=True)


def quantize_dynamic(model: bytes) -> bytes:
    """Return the model with int8 weights in its matrix products.

    Raises:
        CompressionError: ONNX Runtime cannot do it.
    """

    def work(source: Path, target: Path) -> None:
        quantization.quantize_dynamic(source, target, per_channel=True, weight_type=quantization.QuantType.QInt8)

    return _in_folder(model, work, prepare=True)


def to_float16(model: bytes) -> bytes:
    """Return the graph in float16 with float32 inputs and outputs.

    Raises:
        CompressionError: The converter cannot do it.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    def work(source: Path, target: Path) -> None:
        converted = convert_float_to_float16(onnx.load_model(source), keep_io_types=True)
        # The converter appends the casts of the inputs at the end; the format wants producers first.
        OnnxModel.graph_topological_sort(converted.graph, is_deterministic=True)
        onnx.save_model(converted, target)

    return _in_folder(model, work, prepare=False)


def _in_folder(model: bytes, work: Callable[[Path, Path], None], *, prepare: bool) -> bytes:
    """Return what ``work(source file, target file)`` writes; the files live in a scratch folder."""
    with tempfile.TemporaryDirectory(prefix="edgepick-") as folder, _calm_logging(), quiet():
        source, prepared, target = (Path(folder) / name for name in ("source.onnx", "prepared.onnx", "target.onnx"))
        source.write_bytes(model)
        try:
            if prepare:
                quant_pre_process(source, prepared, skip_symbolic_shape=True)
            work(prepared if prepare else source, target)
            return onnx_file.write(_cleaned(onnx_file.read(target.read_bytes(), _WHERE)))
        except Exception as error:  # the engine has no error type of its own, and raises whatever comes up inside
            first = str(error).strip().partition("\n")[0]
            raise CompressionError(f"onnxruntime.quantization cannot do this model: {first}") from error


def _cleaned(model: Any) -> Any:
    """Drop what says who wrote the file and when, so that the same content has the same digest."""
    del model.metadata_props[:]
    return model


@contextlib.contextmanager
def _calm_logging() -> Iterator[None]:
    """Keep the engine's advice, which it writes to the root logger, off the terminal."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
