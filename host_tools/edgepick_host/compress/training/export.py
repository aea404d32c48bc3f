"""From a PyTorch module to a ``.tflite`` or ONNX file of batch 1, shown to answer as the module does.

Both start from the same flat graph (:mod:`edgepick_host.compress.training.graph`), with batch norms folded. The same
weights give the same bytes: what exporters add about themselves is removed.
"""

import contextlib
import copy
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from edgepick_host.compress.predictor import open_predictor
from edgepick_host.compress.quiet import quiet
from edgepick_host.compress.training.graph import ATEN, lower
from edgepick_host.compress.training.samples import to_file_layout, to_module_layout
from edgepick_host.compress.training.trainer import answers
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat

OPSET = 18
INPUT_NAME, OUTPUT_NAME = "input", "output"
MAX_ERROR_SHARE = 1e-3
"""Of the largest answer: rounding in another order is far below, a wrong export far above."""


def export_module(module: nn.Module, model_format: ModelFormat, probe: Tensor, *, channels_last: bool) -> bytes:
    """Return the module as a float model file of batch 1.

    Args:
        module: Takes ``[N, ...]``; is exported in evaluation mode, and left as it is.
        model_format: Of the file.
        probe: A few inputs ``[n, ...]``, n > 1, in the module's layout, that both must answer alike.
        channels_last: The file takes ``[1, H, W, C]`` where the module takes ``[N, C, H, W]``.

    Raises:
        CompressionError: The exporter does not take the module, or the file answers otherwise.
    """
    graph = lower(module, probe)
    sample = to_file_layout(probe[:1], channels_last=channels_last)
    writer = _tflite if model_format is ModelFormat.TFLITE else _onnx
    try:
        with _silent():
            data = writer(_FileLayout(graph, channels_last=channels_last).eval(), sample)
    except CompressionError:
        raise
    except Exception as error:  # exporters raise what they like
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise CompressionError(
            f"the module cannot be exported to {model_format.value}: {type(error).__name__}: {first.strip()}",
            hint="The exporter names the operator that it does not know; write the module without it.",
        ) from error
    _check_answers(module, data, model_format, probe, channels_last=channels_last)
    return data


class _FileLayout(nn.Module):
    """The module for inputs in the file's layout."""

    def __init__(self, inner: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.inner, self.channels_last = inner, channels_last

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.permute(0, 3, 1, 2) if self.channels_last and x.ndim == 4 else x)


def _tflite(module: "_FileLayout", sample: Tensor) -> bytes:
    import litert_torch

    wrapped: nn.Module = module
    if module.channels_last:
        wrapped = litert_torch.to_channel_last_io(module.inner, args=[0]).eval()
    with tempfile.TemporaryDirectory(prefix="edgepick-") as folder:
        path = Path(folder) / "model.tflite"
        litert_torch.convert(wrapped, (sample,)).export(str(path))
        return _tidy_tflite(path)


def _tidy_tflite(path: Path) -> bytes:
    """Return the file with every tensor named after its operator; the exporter's names are module paths."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(str(path))
    graph = model.subgraphs[0]
    for tensor, name in _tensor_names(model, graph, flatbuffer_utils).items():
        graph.tensors[tensor].name = name.encode()
    for signature in model.signatureDefs or ():
        signature.inputs[0].name, signature.outputs[0].name = INPUT_NAME.encode(), OUTPUT_NAME.encode()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _tensor_names(model: Any, graph: Any, flatbuffer_utils: Any) -> dict[int, str]:
    names: dict[int, str] = {}
    for position, operator in enumerate(graph.operators):
        kind = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex).lower()
        many = len(operator.outputs) > 1
        names |= {t: f"{position:02d}_{kind}{f'_{i}' if many else ''}" for i, t in enumerate(operator.outputs)}
        roles = ("input", "weights", "bias") if len(operator.inputs) == 3 else ("input", "operand")
        for place, tensor in enumerate(operator.inputs):
            role = roles[place] if place < len(roles) else f"operand_{place}"
            names.setdefault(int(tensor), f"{position:02d}_{kind}_{role}")
    names.pop(-1, None)
    return names | {int(graph.inputs[0]): INPUT_NAME, int(graph.outputs[0]): OUTPUT_NAME}


def _onnx(module: "_FileLayout", sample: Tensor) -> bytes:
    from edgepick_host.compress.onnx_cleanup import cleaned

    module = copy.deepcopy(module)
    if isinstance(module.inner, fx.GraphModule):
        _pool_by_mean(module.inner)
    program = torch.onnx.export(
        module, (sample,), dynamo=True, opset_version=OPSET, input_names=[INPUT_NAME], output_names=[OUTPUT_NAME],
        verbose=False,
    )  # fmt: skip
    proto = program.model_proto
    graph = proto.graph
    for holder in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del holder.metadata_props[:]
        holder.doc_string = ""
    return cleaned(proto.SerializeToString(deterministic=True))


def _pool_by_mean(module: fx.GraphModule) -> None:
    """Write global average pooling as a mean: the ONNX exporter makes one node of it instead of five."""
    for node in list(module.graph.nodes):
        if node.target is ATEN.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:
            node.target, node.args = ATEN.mean.dim, (node.args[0], [2, 3], True)
    module.recompile()


def _check_answers(
    module: nn.Module, data: bytes, model_format: ModelFormat, probe: Tensor, *, channels_last: bool
) -> None:
    predictor = open_predictor(data, model_format)
    expected = answers(module, probe).numpy()
    files = to_file_layout(probe, channels_last=channels_last).numpy()
    found = np.stack([predictor.run([files[i : i + 1]]) for i in range(len(files))])
    limit = MAX_ERROR_SHARE * float(np.max(np.abs(expected), initial=1e-6))
    if found.shape != expected.shape or float(np.max(np.abs(found - expected))) > limit:
        raise CompressionError(
            f"the exported {model_format.value} file answers otherwise than the module; it is not used",
            hint="Does forward() mix up the batch's samples, or answer at random?",
        )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drop what exporters print and log until the block ends; from Python or C++, to either stream."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.stdout.flush()
    kept, disabled = os.dup(1), logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with quiet(), warnings.catch_warnings(), open(os.devnull, "w") as nothing:  # noqa: PTH123 - a device
            warnings.simplefilter("ignore")
            os.dup2(nothing.fileno(), 1)
            with contextlib.redirect_stdout(nothing):
                yield
    finally:
        logging.disable(disabled)
        os.dup2(kept, 1)
        os.close(kept)


__all__ = ["export_module", "to_file_layout", "to_module_layout"]
