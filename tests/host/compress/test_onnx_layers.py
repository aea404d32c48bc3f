"""Layer by layer: what ONNX layers lose, stored in fewer bits or narrowed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from onnx import TensorProto, helper, numpy_helper

from edgepick_host.compress import onnx_file, onnx_layers
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.onnx_weights import layers
from edgepick_host.compress.passes import onnx_equalize, onnx_static_qdq, onnx_weight_only
from edgepick_host.compress.predictor import OnnxPredictor, predict
from edgepick_host.compress.step import StepContext


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


def test_narrow_weights_take_their_bytes_and_no_more(tmp_path):
    """Stored in 8 and 4 bits, a model with real layers has about a quarter and an eighth of its weights' bytes."""
    wide = tiny_models.onnx_model(tiny_models.weights(hidden=64))

    sizes = [len(onnx_weight_only.build()(wide, {"bits": bits}, None)) for bits in ("8", "4")]

    floats = sum(layer.weights.nbytes for layer in layers(onnx.load_model_from_string(wide)))
    rest = len(wide) - floats
    assert sizes[0] - rest == pytest.approx(floats / 4, rel=0.05, abs=1500)
    assert sizes[1] - rest == pytest.approx(floats / 8, rel=0.05, abs=1500)


def chain(seed: int = 0) -> bytes:
    """Return two convolutions in a row, the first with channels of very uneven size."""
    rng = np.random.default_rng(seed)
    sizes = np.geomspace(0.01, 3, 6).astype(np.float32)
    constants = {
        "w1": rng.normal(size=(6, 2, 3, 3)).astype(np.float32) * sizes[:, None, None, None],
        "b1": rng.normal(size=6).astype(np.float32) * sizes,
        "w2": rng.normal(size=(3, 6, 1, 1)).astype(np.float32) / sizes[None, :, None, None],
        "b2": rng.normal(size=3).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "one", kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["y"], "two", kernel_shape=[1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 6, 6])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_equalization_evens_channels_out_and_changes_no_answer(tmp_path):
    """Two layers in a row end with weights of even size, the same function, and less error with one scale per layer."""
    model = chain()
    x = np.random.default_rng(1).normal(size=(40, 2, 8, 8)).astype(np.float32)
    data = load_dataset(tiny_models.save(tmp_path / "x.npz", x=x))
    context = StepContext(calibration=data, source=onnx_file.describe(model, Path("m")))

    even = onnx_equalize.build()(model, {}, context)

    def answers(data_: bytes) -> np.ndarray:
        return predict(OnnxPredictor(data_), data, context.source.inputs)

    def loss(data_: bytes) -> float:
        quantized = onnx_static_qdq.build()(data_, {"weights": "per_tensor"}, context)
        return float(np.abs(answers(quantized) - answers(model)).mean())

    first = next(layers(onnx.load_model_from_string(even))).weights
    sizes = np.abs(first).max(axis=(1, 2, 3))
    np.testing.assert_allclose(answers(even), answers(model), atol=1e-4)
    assert sizes.max() / sizes.min() < 4
    assert loss(even) < loss(model) / 2


def test_equalization_changes_no_answer(onnx_source, onnx_context, files):
    """Evening channels out leaves the function as it was."""
    data = load_dataset(files.evaluation)

    model = onnx_equalize.build()(onnx_source.data, {}, onnx_context)

    floats = predict(OnnxPredictor(onnx_source.data), data, onnx_source.facts.inputs)
    np.testing.assert_allclose(predict(OnnxPredictor(model), data, onnx_source.facts.inputs), floats, atol=1e-5)
