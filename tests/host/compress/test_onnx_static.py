"""Static quantization of ONNX: our ranges, searched or not, and the integers moved for the answers' sake."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from onnx import numpy_helper

from edgepick_host.compress import onnx_auto, onnx_file, onnx_guard, onnx_rounding, onnx_static
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.observers import Method
from edgepick_host.compress.onnx_fidelity import Fidelity
from edgepick_host.compress.onnx_tensors import TensorRunner
from edgepick_host.compress.passes import onnx_static_qdq
from edgepick_host.compress.predictor import OnnxPredictor, predict
from edgepick_host.compress.source import load_source
from edgepick_host.errors import CompressionError

OPTIONS = onnx_guard.StaticOptions()


def quantized(source, context, **parameters: str) -> bytes:
    return onnx_static_qdq.build()(source.data, parameters, context)


def error_of(source, context, model: bytes) -> float:
    return float(Fidelity(onnx_guard.prepared(source.data), context).errors(model).mean())


@pytest.mark.parametrize("method", [method for method in Method if method is not Method.MOVING_AVERAGE])
def test_every_statistic_gives_a_model_that_answers_alike(onnx_source, onnx_context, method):
    """Each method that sees all samples alike keeps the divergence of the answers small."""
    model = quantized(onnx_source, onnx_context, calibration=str(method))

    assert 0 < error_of(onnx_source, onnx_context, model) < 0.05


def test_the_search_is_at_least_as_near_as_every_statistic(onnx_source, onnx_context):
    """No single statistic's ranges answer nearer to the float model than the searched ones."""
    quantizer = onnx_static.StaticQuantizer(onnx_source.data, OPTIONS, onnx_context)
    judge = Fidelity(quantizer.model, onnx_context)
    plain = [quantizer.quantized(quantizer.calibrated(onnx_context, method)) for method in ("minmax", "mse")]

    searched = quantizer.quantized(onnx_auto._searched(quantizer, onnx_context))

    assert judge.errors(searched).mean() <= min(judge.errors(model).mean() for model in plain)


def test_sixteen_bits_come_nearer_than_eight(onnx_source, onnx_context):
    """With int16 activations the divergence falls."""
    eight = quantized(onnx_source, onnx_context)
    sixteen = quantized(onnx_source, onnx_context, activations="int16")

    assert error_of(onnx_source, onnx_context, sixteen) < error_of(onnx_source, onnx_context, eight)


def test_unsigned_activations_answer_as_signed_ones_do(onnx_source, onnx_context):
    """The kind that x86 kernels are fast with has other zero points, and the same answers to within a step or two."""
    signed, unsigned = (
        onnx_static_qdq.build()(onnx_source.data, {"activations": kind}, onnx_context) for kind in ("int8", "uint8")
    )

    def answers(model: bytes) -> np.ndarray:
        return predict(OnnxPredictor(model, optimise=False), onnx_context.calibration, onnx_context.source.inputs)

    kinds = {quantizer.dtype for quantizer in onnx_file.describe(unsigned, Path("m")).quantizers}
    assert "uint8" in kinds
    np.testing.assert_allclose(answers(unsigned), answers(signed), atol=0.02)


def test_learned_ranges_win(onnx_source, onnx_context):
    """A range that training has learned sets the scale of its tensor, whatever calibration saw."""
    tensor = onnx_static.quantized_tensors(quantized(onnx_source, onnx_context))[0]
    learned = replace(onnx_context, ranges={tensor: (-1000.0, 1000.0)})

    graph = onnx.load_model_from_string(quantized(onnx_source, learned)).graph

    first = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == tensor)
    scale = next(numpy_helper.to_array(t) for t in graph.initializer if t.name == first.input[1])
    assert float(scale) == pytest.approx(2000 / 255, rel=0.02)


def test_a_layer_is_kept_in_float(onnx_source, onnx_context):
    """The layer named by its output tensor keeps float weights; the others have int8."""
    dense = next(n for n in onnx.load_model_from_string(onnx_source.data).graph.node if n.op_type in {"Gemm", "MatMul"})

    facts = onnx_file.describe(quantized(onnx_source, onnx_context, keep_float=dense.output[0]), Path("m.onnx"))

    kept = [t for t in facts.tensors if t.constant and t.dtype == "float32" and len(t.shape) == 2]
    assert kept
    assert any(t.dtype == "int8" and len(t.shape) == 4 for t in facts.narrow_constants)


def test_a_layer_that_is_not_there_is_named(onnx_source, onnx_context):
    """A name that no layer computes is refused, not passed over."""
    with pytest.raises(CompressionError, match="nowhere"):
        quantized(onnx_source, onnx_context, keep_float="nowhere")


def test_biases_take_mean_errors_off(onnx_source, onnx_context):
    """After bias correction, the mean error of the last layer's channels is smaller than before."""
    quantizer = onnx_static.StaticQuantizer(onnx_source.data, replace(OPTIONS, per_channel=False), onnx_context)
    plain = quantizer.quantized(quantizer.calibrated(onnx_context, Method.MINMAX))

    corrected = onnx_rounding.correct_biases(quantizer.model, plain, onnx_context)

    logits = onnx.load_model_from_string(quantizer.model).graph.node[-1].input[0]
    ideal = onnx_rounding._means(quantizer.model, [logits], onnx_context)[logits]

    def miss(model: bytes) -> float:
        name = onnx.load_model_from_string(model).graph.node[-1].input[0]
        return float(np.abs(onnx_rounding._means(model, [name], onnx_context)[name] - ideal).mean())

    assert miss(corrected) < miss(plain)


def test_adaptive_rounding_moves_only_integers(onnx_source, onnx_context):
    """Rounding for the outputs changes weights, keeps every scale, and comes no farther from the float model."""
    plain = quantized(onnx_source, onnx_context, weights="per_tensor")
    moved = quantized(onnx_source, onnx_context, weights="per_tensor", rounding="adaptive")

    before, after = (
        {t.name: numpy_helper.to_array(t) for t in onnx.load_model_from_string(model).graph.initializer}
        for model in (plain, moved)
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert not any(name.endswith(("_scale", "_zero_point")) for name in changed)
    assert error_of(onnx_source, onnx_context, moved) < 1.5 * error_of(onnx_source, onnx_context, plain)


def test_intermediate_results_are_the_models_own(onnx_source, onnx_context):
    """A tensor read on the way to the output does not change the output."""
    sample = next(onnx_context.calibration.samples(onnx_source.facts.inputs))
    output = onnx_source.facts.outputs[0].name

    everything = TensorRunner(onnx_guard.prepared(onnx_source.data)).run(sample)

    assert len(everything) > 5
    np.testing.assert_allclose(everything[output], TensorRunner(onnx_source.data, [output]).run(sample)[output], 1e-5)


def test_a_model_that_ends_in_numbers_is_searched_too(onnx_context, tmp_path):
    """A model whose last layer's own values are the answer, as in a regression, is quantized by the search."""
    (tmp_path / "dense.onnx").write_bytes(tiny_models.dense_onnx())
    source = load_source(tmp_path / "dense.onnx")
    width = source.facts.inputs[0].shape[-1]
    x = np.random.default_rng(0).normal(0, 1, (40, width)).astype(np.float32)
    calibration = load_dataset(tiny_models.save(tmp_path / "c.npz", x=x))
    context = replace(onnx_context, calibration=calibration, source=source.facts)

    model = quantized(source, context, calibration="auto")

    assert source.facts.outputs[0].name in onnx_static.quantized_tensors(model)
    assert error_of(source, context, model) <= error_of(source, context, quantized(source, context))
