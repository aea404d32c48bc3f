"""Layer by layer: what ONNX layers lose, stored in fewer bits or narrowed."""

import numpy as np
import pytest

from edgepick_host.compress import onnx_layers
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.passes import onnx_equalize, onnx_static_qdq, onnx_weight_only
from edgepick_host.compress.predictor import OnnxPredictor, predict


def test_every_layer_of_a_quantized_model_has_its_error(onnx_source, onnx_context):
    """Layers are named by their float outputs, and each has noise in the int8 model."""
    model = onnx_static_qdq.build()(onnx_source.data, {}, onnx_context)

    found = onnx_layers.layer_errors(onnx_source.data, model, onnx_context.calibration, onnx_context.source.inputs)

    assert {"Conv", "Gemm"} <= {error.operator for error in found}
    assert all(5 < error.sqnr_db < 80 for error in found)


def test_the_layer_that_hurts_most_comes_first(onnx_source, onnx_context):
    """Each layer with weights is quantized alone, and the worst one leads."""
    quantize = onnx_static_qdq.build()

    found = onnx_layers.sensitivity(
        onnx_source.data, onnx_context, lambda m, c, kept: quantize(m, {"keep_float": "\n".join(kept)}, c)
    )

    alone = [error.alone_sqnr_db for error in found]
    assert len(found) == 3
    assert alone == sorted(alone)


@pytest.mark.parametrize(("bits", "most"), [("8", 0.05), ("4", 0.6)])
def test_weights_alone_in_integers_answer_alike(onnx_source, onnx_context, files, bits, most):
    """With integer weights and float arithmetic, answers move, but not far."""
    data = load_dataset(files.evaluation)

    model = onnx_weight_only.build()(onnx_source.data, {"bits": bits}, onnx_context)

    floats = predict(OnnxPredictor(onnx_source.data), data, onnx_source.facts.inputs)
    moved = np.abs(predict(OnnxPredictor(model), data, onnx_source.facts.inputs) - floats).max()
    assert 0 < moved < most


def test_equalization_changes_no_answer(onnx_source, onnx_context, files):
    """Evening channels out leaves the function as it was."""
    data = load_dataset(files.evaluation)

    model = onnx_equalize.build()(onnx_source.data, {}, onnx_context)

    floats = predict(OnnxPredictor(onnx_source.data), data, onnx_source.facts.inputs)
    np.testing.assert_allclose(predict(OnnxPredictor(model), data, onnx_source.facts.inputs), floats, atol=1e-5)
