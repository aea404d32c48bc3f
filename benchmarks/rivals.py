"""Other tools, used as their documentation begins: what one would take instead."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from cases import Case


def aeq_defaults(case: Case) -> bytes:
    """Return ai-edge-quantizer's own static int8 recipe, calibrated by its own calibration."""
    from ai_edge_quantizer import quantizer, recipe

    engine = quantizer.Quantizer(bytearray(case.source.data))
    engine.load_quantization_recipe(recipe.static_wi8_ai8())
    ranges = engine.calibrate({"serving_default": _named(case)})
    return bytes(engine.quantize(ranges, enable_progress_report=False).quantized_model)


def ort_defaults(case: Case) -> bytes:
    """Return ONNX Runtime's ``quantize_static`` with its defaults."""
    from onnxruntime import quantization

    samples = iter(_named(case))

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(samples, None)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        source.write_bytes(case.source.data)
        quantization.quantize_static(source, target, Reader())
        return target.read_bytes()


def nncf_defaults(case: Case) -> bytes:
    """Return NNCF's ``quantize`` with its defaults (fast bias correction, statistics of up to 300 samples)."""
    import nncf
    import onnx

    nncf.set_log_level("ERROR")
    model = nncf.quantize(onnx.load_model_from_string(case.source.data), nncf.Dataset(_named(case)))
    return bytes(model.SerializeToString())


def _named(case: Case) -> list[dict[str, np.ndarray]]:
    """Return the calibration samples as these tools take them."""
    name = case.source.facts.inputs[0].name
    return [{name: sample[0]} for sample in case.calibration.samples(case.source.facts.inputs)]


def torch_pruning_alone(module: Any, probe: Any, *, ratio: float, round_to: int) -> Any:
    """Return a copy without a share of its channels, as torch-pruning's tutorial does it; nothing trains it again."""
    import copy

    import torch
    import torch_pruning

    smaller = copy.deepcopy(module)
    for parameter in smaller.parameters():
        parameter.requires_grad_()
    linear = [part for part in smaller.modules() if isinstance(part, torch.nn.Linear)]
    torch_pruning.pruner.MagnitudePruner(
        smaller,
        probe,
        importance=torch_pruning.importance.GroupMagnitudeImportance(),
        pruning_ratio=ratio,
        round_to=round_to,
        ignored_layers=linear[-1:],
    ).step()
    return smaller.eval()
