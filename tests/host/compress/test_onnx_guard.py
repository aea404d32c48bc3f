"""ONNX variants: layout, numbers, and what must not be in them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from onnx import numpy_helper
from onnxruntime import quantization

from edgepick_host.compress import onnx_file, onnx_guard
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.passes import onnx_dynamic_int8, onnx_float16, onnx_prune, onnx_static_qdq
from edgepick_host.compress.predictor import OnnxPredictor, predict
from edgepick_host.compress.source import load_source
from edgepick_host.compress.step import StepContext
from edgepick_host.core.tensorrt_rules import tensorrt_objections
from edgepick_host.core.verify import profile_objection
from edgepick_host.errors import CompressionError
from edgepick_profiles.load import load_profile

WHERE = Path("model.onnx")
DEFAULT = {"weights": "per_channel", "layout": "default"}
SYMMETRIC = {"weights": "per_channel", "layout": "symmetric"}


class Reader(quantization.CalibrationDataReader):
    def __init__(self, samples):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


def describe(model: bytes):
    return onnx_file.describe(model, WHERE)


def test_the_symmetric_layout_has_only_zero_zero_points(onnx_source, onnx_context):
    """Every quantizer of the TensorRT layout is int8 with zero point 0, residual inputs included."""
    facts = describe(onnx_static_qdq.build()(onnx_source.data, SYMMETRIC, onnx_context))

    assert len(facts.quantizers) > 10
    assert {quantizer.dtype for quantizer in facts.quantizers} == {"int8"}
    assert all(quantizer.zero_points_are_zero for quantizer in facts.quantizers)
    assert "uint8" not in {tensor.dtype for tensor in facts.tensors}
    assert profile_objection(facts, load_profile("jetson-orin-nano"), None) is None


def test_the_default_layout_is_not_for_tensorrt(onnx_source, onnx_context):
    """ONNX Runtime's own layout is accepted for CPUs, and refused for TensorRT by the checker."""
    facts = describe(onnx_static_qdq.build()(onnx_source.data, DEFAULT, onnx_context))

    assert profile_objection(facts, load_profile("generic-linux"), None) is None
    assert profile_objection(facts, load_profile("jetson-orin-nano"), None) is not None


def test_a_float_residual_is_found(onnx_source, onnx_context, tmp_path):
    """A graph that adds a branch which was left out of quantization is refused for TensorRT."""
    model = onnx.load_model_from_string(onnx_source.data)
    samples = [{"x": s[0]} for s in onnx_context.calibration.samples(onnx_source.facts.inputs)]
    with onnx_guard.quiet():
        quantization.quantize_static(
            model,
            tmp_path / "q.onnx",
            Reader(samples),
            per_channel=True,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=["second"],
            extra_options=dict(onnx_guard.SYMMETRIC_OPTIONS),
        )

    facts = describe((tmp_path / "q.onnx").read_bytes())

    assert "Add (a) adds a tensor that is not quantized" in objections(facts)


def objections(facts) -> str:
    return "; ".join(tensorrt_objections(facts))


@pytest.mark.parametrize("parameters", [DEFAULT, SYMMETRIC])
def test_weights_are_stored_as_int8(onnx_source, onnx_context, parameters):
    """Both layouts store int8 weights with a scale per channel, so the file really shrinks."""
    facts = describe(onnx_static_qdq.build()(onnx_source.data, parameters, onnx_context))

    kernels = [tensor for tensor in facts.narrow_constants if len(tensor.shape) == 4]
    assert {tensor.dtype for tensor in kernels} == {"int8"}
    assert not [t for t in facts.tensors if t.constant and t.dtype == "float32" and len(t.shape) == 4]


@pytest.mark.parametrize("parameters", [DEFAULT, SYMMETRIC])
def test_int8_answers_stay_near_the_float_models(onnx_source, onnx_context, files, parameters):
    """On the evaluation set, the int8 model gives the float model's answer nearly always."""
    data = load_dataset(files.evaluation)
    model = onnx_static_qdq.build()(onnx_source.data, parameters, onnx_context)

    floats = predict(OnnxPredictor(onnx_source.data), data, onnx_source.facts.inputs)
    found = predict(OnnxPredictor(model, optimise=False), data, onnx_source.facts.inputs)

    assert np.mean(np.argmax(floats, axis=1) == np.argmax(found, axis=1)) > 0.9
    assert np.abs(floats - found).max() > 0


def test_calibration_order_changes_nothing(onnx_source, onnx_context, shuffled):
    """Shuffled calibration samples give the identical file."""
    other = StepContext(calibration=load_dataset(shuffled), source=onnx_source.facts)

    a = onnx_static_qdq.build()(onnx_source.data, SYMMETRIC, onnx_context)
    b = onnx_static_qdq.build()(onnx_source.data, SYMMETRIC, other)

    assert a == b


def test_float16_keeps_float_ends(onnx_source, onnx_context, files):
    """Weights are float16, inputs and outputs float32, and the answers stay."""
    model = onnx_float16.build()(onnx_source.data, {"io": "float32"}, onnx_context)

    facts, data = describe(model), load_dataset(files.evaluation)
    assert {tensor.dtype for tensor in facts.narrow_constants} == {"float16"}
    assert {tensor.dtype for tensor in (*facts.inputs, *facts.outputs)} == {"float32"}
    error = np.abs(
        predict(OnnxPredictor(model), data, facts.inputs) - predict(OnnxPredictor(onnx_source.data), data, facts.inputs)
    )
    assert 0 < error.max() < 0.02


def test_pruning_zeroes_half_of_each_layer(onnx_source, onnx_context):
    """Half of every layer's weights become zero, biases stay."""
    model = onnx.load_model_from_string(onnx_prune.build()(onnx_source.data, {"share": "0.5"}, onnx_context))

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name in ("first_w", "second_w", "dense_w"):
        assert np.count_nonzero(arrays[name] == 0) == arrays[name].size // 2
    assert np.count_nonzero(arrays["first_b"]) == arrays["first_b"].size


def test_dynamic_quantization_of_matrix_products(tmp_path, onnx_context):
    """A graph of matrix products gets int8 weights and answers nearly alike."""
    path = tmp_path / "dense.onnx"
    path.write_bytes(tiny_models.dense_onnx())
    source = load_source(path)
    data = load_dataset(
        tiny_models.save(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32))
    )

    model = onnx_dynamic_int8.build()(source.data, {}, onnx_context)

    facts = describe(model)
    assert "MatMulInteger" in facts.operator_names
    assert {tensor.dtype for tensor in facts.narrow_constants} >= {"int8"}
    floats = predict(OnnxPredictor(source.data), data, source.facts.inputs)
    assert (
        np.abs(predict(OnnxPredictor(model), data, source.facts.inputs) - floats).mean() < 0.1 * np.abs(floats).mean()
    )


def test_an_open_batch_becomes_one(tmp_path):
    """A symbolic batch is fixed to 1 in inputs and outputs."""
    path = tmp_path / "open.onnx"
    path.write_bytes(tiny_models.onnx_model(tiny_models.weights(), batch="N"))

    source = load_source(path)

    assert source.facts.inputs[0].shape[0] == 1
    assert source.facts.outputs[0].shape == (1, tiny_models.CLASSES)


def test_the_engines_failure_becomes_our_error(onnx_source):
    """Whatever the engine raises is one compression error that keeps its first line."""
    prepared = onnx_guard.prepared(onnx_source.data)

    with pytest.raises(CompressionError, match=r"onnxruntime\.quantization"):
        onnx_guard.quantize_static(prepared, onnx_guard.StaticOptions(), {})
