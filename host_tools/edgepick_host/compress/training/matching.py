"""Which tensors of an exported file hold which activations of a module: found by their values.

Exporters rename, fuse and transpose; the numbers stay. A few inputs are run through both, every tensor of the file
is kept, and those that hold what a fake-quantized point of the module holds get that point's range. It works the same
for both formats, and needs nothing from the exporters.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from edgepick_host.compress.quiet import quiet
from edgepick_host.compress.step import Range
from edgepick_host.compress.training.ranged import RangedModule
from edgepick_host.compress.training.samples import to_file_layout
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat

MAX_DIFFERENCE_SHARE = 1e-4
"""Of a tensor's largest value: what the order of a sum changes in float32 is less, another layer's values are more."""

MAX_UNMATCHED_SHARE = 0.25
"""Of the learned ranges: an exporter may fuse some activations away, and no kernel writes those; most must be there."""

FloatArray = npt.NDArray[np.float32]


def match_ranges(
    module: nn.Module, data: bytes, model_format: ModelFormat, probe: Tensor, *, channels_last: bool
) -> dict[str, Range]:
    """Return the learned ranges by the file's tensor names; empty for a module without any.

    Args:
        module: As trained; one without learned ranges gives none.
        data: What it was exported to.
        model_format: Of ``data``.
        probe: A few inputs in the module's layout.
        channels_last: The file takes ``[1, H, W, C]``.

    Raises:
        CompressionError: Too many learned ranges belong to no tensor of the file.
    """
    if not isinstance(module, RangedModule):
        return {}
    points = {name: value.numpy() for name, value in module.points(probe).items()}
    files = to_file_layout(probe, channels_last=channels_last).numpy()
    kept = file_tensors(data, model_format, [files[i : i + 1] for i in range(len(files))])
    return _matched(module.ranges, points, kept)


def _matched(
    ranges: Mapping[str, Range], points: Mapping[str, FloatArray], kept: Mapping[str, FloatArray]
) -> dict[str, Range]:
    found: dict[str, Range] = {}
    unmatched = set(ranges)
    for tensor, values in kept.items():
        for point, limits in ranges.items():
            if same_values(points[point], values):
                found[tensor] = limits
                unmatched.discard(point)
                break
    if len(unmatched) > MAX_UNMATCHED_SHARE * len(ranges):
        raise CompressionError(
            f"the file holds no tensor for the learned ranges of {', '.join(sorted(unmatched))}; it is not used"
        )
    return found


def same_values(point: FloatArray, tensor: FloatArray) -> bool:
    """Return whether two activations ``[n, ...]`` hold the same, channels first or last, flattened or not."""
    if point.size != tensor.size or len(point) != len(tensor):
        return False
    limit = MAX_DIFFERENCE_SHARE * max(float(np.max(np.abs(point), initial=0.0)), 1e-6)
    forms = [point]
    if point.ndim > 2:
        forms += [np.moveaxis(point, 1, -1), np.moveaxis(point, -1, 1)]
    flat = tensor.reshape(len(tensor), -1)
    return any(float(np.max(np.abs(form.reshape(len(form), -1) - flat))) <= limit for form in forms)


def file_tensors(data: bytes, model_format: ModelFormat, samples: Sequence[Any]) -> dict[str, FloatArray]:
    """Return every float tensor that the file computes, with its input, ``[n, ...]`` by name.

    Args:
        data: A float model of batch 1.
        model_format: Of ``data``.
        samples: Inputs ``[1, ...]``.
    """
    runs = _tflite_runs(data, samples) if model_format is ModelFormat.TFLITE else _onnx_runs(data, samples)
    every = list(runs)
    return {name: np.concatenate([run[name] for run in every]) for name in every[0] if every[0][name].ndim > 1}


def _tflite_runs(data: bytes, samples: Sequence[Any]) -> Iterator[dict[str, FloatArray]]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quiet():
        interpreter = Interpreter(
            model_content=data,
            num_threads=1,
            experimental_preserve_all_tensors=True,
            # A delegate would keep its tensors to itself.
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    for sample in samples:
        interpreter.set_tensor(source, sample)
        interpreter.invoke()
        run: dict[str, FloatArray] = {}
        for details in interpreter.get_tensor_details():
            if details["dtype"] is np.float32 and len(details["shape"]) and details["shape"][0] == 1:
                with contextlib.suppress(ValueError):  # scratch tensors have no data
                    run[details["name"]] = np.array(interpreter.get_tensor(details["index"]))
        yield run


def _onnx_runs(data: bytes, samples: Sequence[Any]) -> Iterator[dict[str, FloatArray]]:
    import onnx
    import onnxruntime

    model = onnx.load_model_from_string(data)
    name = model.graph.input[0].name
    outputs = [each for node in model.graph.node for each in node.output if each]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(each) for each in outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with quiet():
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for sample in samples:
        found = session.run(outputs, {name: sample})
        run = {key: value for key, value in zip(outputs, found, strict=True) if value.dtype == np.float32}
        yield cast("dict[str, FloatArray]", {name: sample, **run})
