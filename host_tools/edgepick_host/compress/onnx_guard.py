"""onnxruntime.quantization behind guards. Owns every call into it.

- It works on files: everything happens in a scratch folder, and what comes back is bytes.
- The model is prepared first (constants folded, BatchNorm fused, shapes inferred), as its documentation asks.
- Ranges are ours (:mod:`edgepick_host.compress.onnx_static`): its own calibration keeps every intermediate result in
  memory, fails on some methods, and knows no range that training has learned.
- ``quantize_dynamic`` turns Conv into an operator that ONNX Runtime does not optimise: the plan keeps graphs with
  convolutions away from it.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgepick_host.compress import onnx_file
from edgepick_host.compress.onnx_fusable import make_fusable
from edgepick_host.compress.quiet import quiet
from edgepick_host.compress.step import Range
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

PROBABILITIES = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})

_WHERE = Path("model.onnx")


ACTIVATIONS = {
    "int8": quantization.QuantType.QInt8,
    "uint8": quantization.QuantType.QUInt8,
    "int16": quantization.QuantType.QInt16,
}
ACTIVATION_BITS = {"int8": 8, "uint8": 8, "int16": 16}


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticOptions:
    """What a statically quantized model looks like.

    Attributes:
        per_channel: A scale per output channel of weights; else one per layer.
        symmetric: Every zero point 0 and no quantized bias, as TensorRT asks.
        activations: "int8", "uint8" (fast on x86, where int8 is not) or "int16".
        keep_float: Output tensors of nodes that stay float.
    """

    per_channel: bool = True
    symmetric: bool = False
    activations: str = "int8"
    keep_float: tuple[str, ...] = ()


def prepared(model: bytes) -> bytes:
    """Return the float model as the quantizer wants it: constants folded, batch norms fused, shapes inferred.

    Raises:
        CompressionError: ONNX Runtime cannot do it.
    """

    def work(source: Path, target: Path) -> None:
        parsed = onnx.load_model(source)
        for number, node in enumerate(parsed.graph.node):
            node.name = node.name or f"node_{number}"  # excluded ones are named
        onnx.save_model(parsed, target)

    return _in_folder(model, work, prepare=True, clean=False)


def quantize_static(model: bytes, options: StaticOptions, ranges: Mapping[str, Range]) -> bytes:
    """Return the model as Q/DQ pairs.

    Args:
        model: A :func:`prepared` float model.
        options: What the result looks like.
        ranges: Of every float tensor that is computed.

    Raises:
        CompressionError: ONNX Runtime cannot do it.
    """

    def work(source: Path, target: Path) -> None:
        cache = target.with_name("ranges.json")
        ends = {name: tuple(np.array(end, dtype=np.float32) for end in pair) for name, pair in ranges.items()}
        quantization.calibrate.save_tensors_data(
            quantization.calibrate.TensorsData(quantization.CalibrationMethod.MinMax, ends), cache
        )
        quantization.quantize_static(
            source,
            target,
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=options.per_channel,
            activation_type=ACTIVATIONS[options.activations],
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_exclude=_nodes(model, options.keep_float),
            extra_options=_extra_options(options),
            calibration_cache_path=cache,
        )
        if options.symmetric:
            written = onnx.load_model(target)
            make_fusable(written)
            onnx.save_model(written, target)

    return _in_folder(model, work, prepare=False)


def _extra_options(options: StaticOptions) -> dict[str, bool]:
    if options.symmetric:
        return dict(SYMMETRIC_OPTIONS)
    # Where zero is the least integer, a Relu is dropped as done by the clipping; with 16 bits it never is.
    return {"ActivationSymmetric": True} if options.activations == "int16" else {}


def _nodes(model: bytes, outputs: tuple[str, ...]) -> list[str]:
    """Return the names of the nodes that compute these tensors."""
    nodes = onnx_file.read(model, _WHERE).graph.node
    unknown = sorted(set(outputs) - {name for node in nodes for name in node.output})
    if unknown:
        raise CompressionError(f"no layer computes {unknown[0]!r}, which was to stay in float")
    kept = [node.name for node in nodes if set(outputs).intersection(node.output)]
    return kept + [node.name for node in nodes if _is_last(model, node)]


def _is_last(model: bytes, node: Any) -> bool:
    """Return whether a node only turns the last layer's outputs into probabilities.

    The model's outputs stay float anyway, and integers of 1/256 would be all that is left of them.
    """
    outputs = {value.name for value in onnx_file.read(model, _WHERE).graph.output}
    return node.op_type in PROBABILITIES and bool(outputs.intersection(node.output))


def quantize_dynamic(model: bytes) -> bytes:
    """Return the model with int8 weights in its matrix products.

    Raises:
        CompressionError: ONNX Runtime cannot do it.
    """

    def work(source: Path, target: Path) -> None:
        quantization.quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            # It splits Gemm into two operators, and does not know the type of what lies between.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )

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


def _in_folder(model: bytes, work: Callable[[Path, Path], object], *, prepare: bool, clean: bool = True) -> bytes:
    """Return what ``work(source file, target file)`` writes; the files live in a scratch folder.

    Without ``clean``, the note that the model was prepared stays in it: the quantizer looks for it.
    """
    with tempfile.TemporaryDirectory(prefix="edgepick-") as folder, _calm_logging(), quiet():
        source, prepared, target = (Path(folder) / name for name in ("source.onnx", "prepared.onnx", "target.onnx"))
        source.write_bytes(model)
        try:
            if prepare:
                quant_pre_process(source, prepared, skip_symbolic_shape=True)
            work(prepared if prepare else source, target)
            result = onnx_file.read(target.read_bytes(), _WHERE)
            return onnx_file.write(_cleaned(result) if clean else result)
        except CompressionError:
            raise
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
