"""Static quantization of .tflite models: its parameters, what is fitted on samples, and samples that are odd."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_models
from ai_edge_litert import schema_py_generated as schema

from edgepick_host.compress import tflite_file
from edgepick_host.compress.observers import Method
from edgepick_host.compress.passes import tflite_equalize, tflite_static_int8, tflite_weight_only
from edgepick_host.compress.predictor import TflitePredictor, predict
from edgepick_host.compress.source import load_source
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.tflite_auto import LEAST_SAMPLES
from edgepick_host.compress.tflite_bias import correct_biases
from edgepick_host.compress.tflite_fidelity import Fidelity
from edgepick_host.compress.tflite_guard import uncovered_operators
from edgepick_host.compress.tflite_integer_layers import integer_layers, read
from edgepick_host.compress.tflite_layers import layer_errors, sensitivity
from edgepick_host.compress.tflite_rounding import round_adaptively
from edgepick_host.compress.tflite_tensors import TensorRunner
from edgepick_host.core.model_facts import OperatorFacts, TensorFacts
from edgepick_host.errors import CompressionError

WHERE = Path("model.tflite")
RELU6 = schema.ActivationFunctionType.RELU6


def int8(model: bytes, context: StepContext, **parameters: str) -> bytes:
    return tflite_static_int8.build()(model, parameters, context)


def describe(model: bytes):
    return tflite_file.describe(model, WHERE)


def outputs(model: bytes, context: StepContext) -> np.ndarray:
    return predict(TflitePredictor(model), context.calibration, context.source.inputs)


def error(model: bytes, source: bytes, context: StepContext) -> float:
    return float(Fidelity(source, context).errors(model).mean())


def with_samples(context: StepContext, x: np.ndarray) -> StepContext:
    return replace(context, calibration=replace(context.calibration, arrays={"x": x}, labels=None))


def test_kept_tensors_are_the_real_ones(tflite_source, context):
    """With every tensor kept, each is what its operator computed: none was overwritten by a later one, or fused."""
    sample = next(context.calibration.samples(context.source.inputs))

    seen = TensorRunner(tflite_source.data).run(sample)

    assert np.allclose(seen["probabilities"][0], TflitePredictor(tflite_source.data).run(sample), atol=1e-6)
    assert np.array_equal(seen["image"], sample[0])
    assert np.allclose(seen["added"], np.maximum(seen["first"] + seen["second"], 0), atol=1e-6)
    assert np.allclose(seen["mean"], seen["added"].mean(axis=(1, 2)), atol=1e-5)


def test_int16_activations_are_nearer_than_int8(tflite_source, context):
    """Activations of 16 bits have zero points of 0 and 64-bit biases, and answer nearer to the float model."""
    wide = int8(tflite_source.data, context, activations="int16")

    facts = describe(wide)
    assert facts.float_tensors == ()
    assert {tensor.dtype for tensor in (*facts.inputs, *facts.outputs)} == {"int16"}
    assert error(wide, tflite_source.data, context) < error(
        int8(tflite_source.data, context), tflite_source.data, context
    )


def test_a_tiny_channel_keeps_its_sign_with_int16_activations(files, tmp_path, context):
    """A bias beyond 32 bits, which the engine wraps and so turns round, makes the layer per tensor instead."""
    w = tiny_models.weights()
    w.first[0] *= np.float32(1e-9)
    w.first_bias[0] = np.float32(12.0)
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_models.tflite_model(w))
    source = load_source(path)

    wide = int8(source.data, context, activations="int16")

    assert describe(wide).saturated_biases == ()
    assert np.abs(outputs(wide, context) - outputs(source.data, context)).mean() < 0.02


def test_four_bit_weights_are_stored_in_four_bits(tflite_source, context):
    """With 4-bit weights, convolutions and dense layers hold int4 constants, and LiteRT runs them."""
    narrow = int8(tflite_source.data, context, weight_bits="4")

    kinds = {op.name: op.inputs[1].dtype for op in describe(narrow).operators if len(op.inputs) > 2}
    assert kinds == {"CONV_2D": "int4", "FULLY_CONNECTED": "int4"}
    assert np.isfinite(outputs(narrow, context)).all()


def test_named_layers_stay_float(tflite_source, context):
    """A layer named to stay float does, and no other: a name that begins like another means only itself."""
    mixed = int8(tflite_source.data, context, keep_float="second\nlogits", io="float32")

    weights = {op.outputs[0].name: op.inputs[1].dtype for op in describe(mixed).operators if len(op.inputs) > 2}
    assert weights == {"first": "int8", "second": "float32", "logits": "float32"}


@pytest.mark.parametrize("method", [str(method) for method in Method])
def test_every_statistic_gives_a_working_model(tflite_source, context, method):
    """Whatever the statistic, the model is integers only and answers nearly as the float model."""
    model = int8(tflite_source.data, context, calibration=method)

    assert describe(model).float_tensors == ()
    assert np.abs(outputs(model, context) - outputs(tflite_source.data, context)).mean() < 0.05


def test_learned_ranges_win(tflite_source, context):
    """A range from training is the tensor's, however it was calibrated; that holds for the automatic search too."""
    learned = replace(context, ranges={"second": (-1.0, 3.0)})

    for calibration in ("minmax", "auto"):
        parsed = read(int8(tflite_source.data, learned, calibration=calibration))
        tensor = next(t for t in parsed.subgraphs[0].tensors if tflite_file.tensor_name(t) == "second")
        assert tensor.quantization.scale[0] == pytest.approx(4.0 / 255)


def test_a_layer_that_does_not_exist_cannot_stay_float(tflite_source, context):
    """A misspelt layer is an error that names it, not a model that is quantized all the same."""
    with pytest.raises(CompressionError, match="'secnd'"):
        int8(tflite_source.data, context, keep_float="secnd")


def test_the_search_leaves_what_a_kernel_fixes(tflite_source, context):
    """The softmax keeps the scale and zero point that its kernel is written for, whatever is searched."""
    few = with_samples(context, context.calibration.arrays["x"][:LEAST_SAMPLES])

    parsed = read(int8(tflite_source.data, few, calibration="auto"))

    output = parsed.subgraphs[0].tensors[parsed.subgraphs[0].outputs[0]].quantization
    assert (output.scale[0], output.zeroPoint[0]) == (1 / 256, -128)


def test_auto_is_nearer_than_any_single_statistic(tflite_source, context):
    """The automatic recipe's answers on calibration samples are nearer to the float model's than min-max's."""
    auto = int8(tflite_source.data, context, calibration="auto")

    assert error(auto, tflite_source.data, context) < error(
        int8(tflite_source.data, context), tflite_source.data, context
    )


def test_auto_gives_the_same_bytes_again(tflite_source, context):
    """Nothing in the search depends on time or chance."""
    few = with_samples(context, context.calibration.arrays["x"][:LEAST_SAMPLES])

    assert int8(tflite_source.data, few, calibration="auto") == int8(tflite_source.data, few, calibration="auto")


def test_bias_correction_takes_mean_errors_away(tflite_source, context):
    """After correction, the mean of every layer's channels is nearer to the float model's than before."""
    plain = int8(tflite_source.data, context, weight_bits="4")

    corrected = correct_biases(tflite_source.data, plain, context)

    assert mean_error(corrected, tflite_source.data, context) < 0.5 * mean_error(plain, tflite_source.data, context)
    assert int8(tflite_source.data, context, weight_bits="4", bias_correction="on") == corrected


def mean_error(model: bytes, source: bytes, context: StepContext) -> float:
    names = ["first", "second", "logits"]
    means = []
    for data in (model, source):
        seen = TensorRunner(data, names).stacked(context.calibration.samples(context.source.inputs))
        means.append(np.concatenate([seen[n].reshape(-1, seen[n].shape[-1]).mean(axis=0) for n in names]))
    return float(np.abs(means[0] - means[1]).mean())


@pytest.mark.parametrize("bits", ["4", "8"])
def test_adaptive_rounding_is_nearer_than_the_nearest(tflite_source, context, bits):
    """Weights rounded for the layer's outputs answer nearer to the float model than each at its nearest integer."""
    plain = int8(tflite_source.data, context, weight_bits=bits, activations="int16")

    rounded = round_adaptively(tflite_source.data, plain, context)

    assert error(rounded, tflite_source.data, context) < 0.7 * error(plain, tflite_source.data, context)
    before, after = (list(integer_layers(read(model))) for model in (plain, rounded))
    for a, b in zip(before, after, strict=True):
        assert b.weights.min() >= b.weight_ends[0]
        assert b.weights.max() <= b.weight_ends[1]
        assert np.array_equal(a.weight_scales, b.weight_scales)


def test_four_bit_weights_survive_packing(tflite_source, context):
    """Reading and storing 4-bit weights again changes no byte."""
    model = int8(tflite_source.data, context, weight_bits="4")
    parsed = read(model)

    for layer in integer_layers(parsed):
        layer.set_weights(layer.weights)

    assert tflite_file.write(parsed) == model


@pytest.mark.parametrize(
    "name", ["one sample", "constant", "zeros", "huge"],
)  # fmt: skip
@pytest.mark.parametrize("calibration", ["minmax", "entropy", "mse", "auto"])
def test_odd_samples_give_a_working_model(tflite_source, context, name, calibration):
    """One sample, constant ones, nothing but zeros, or values up to float32's end: no crash, finite scales."""
    x = context.calibration.arrays["x"]
    odd = {
        "one sample": x[:1],
        "constant": np.full_like(x[:4], 0.5),
        "zeros": np.zeros_like(x[:4]),
        "huge": x[:4] * np.float32(1e30),
    }[name]

    model = int8(tflite_source.data, with_samples(context, odd), calibration=calibration)

    scales = [t.quantization.scale for t in read(model).subgraphs[0].tensors if t.quantization is not None]
    assert all(np.isfinite(scale).all() and (scale > 0).all() for scale in scales if scale is not None)
    assert np.isfinite(outputs(model, context)).all()


def test_dead_channels_are_survived(files, tmp_path, context):
    """A channel of zero weights, and one that ReLU never lets through, break nothing that is fitted."""
    w = tiny_models.weights()
    w.first[0], w.first_bias[0] = 0.0, 0.0
    w.first_bias[1] = -100.0
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_models.tflite_model(w))
    source = load_source(path)

    model = int8(tflite_equalize.build()(source.data, {}, context), context, rounding="adaptive")

    assert describe(model).saturated_biases == ()
    assert np.abs(outputs(model, context) - outputs(source.data, context)).mean() < 0.05


@pytest.mark.parametrize("bits", ["8", "4"])
def test_weight_only_keeps_activations_float(tflite_source, bits):
    """Only constants become integers; inputs, outputs and everything between stay float."""
    model = tflite_weight_only.build()(tflite_source.data, {"bits": bits}, None)

    facts = describe(model)
    assert {tensor.dtype for tensor in facts.narrow_constants} == {f"int{bits}"}
    assert {tensor.dtype for tensor in (*facts.inputs, *facts.outputs)} == {"float32"}


def test_equalization_changes_no_answer(files, tmp_path, context):
    """A chain of two convolutions is equalized: other weights, the same function."""
    source = chain(tmp_path)

    even = tflite_equalize.build()(source.data, {}, context)

    assert even != source.data
    assert np.allclose(outputs(even, context), outputs(source.data, context), atol=1e-5)


def test_equalization_saves_per_tensor_weights(tmp_path, context):
    """Where channels differ in size a thousandfold, per-tensor weights are of use only after equalization."""
    source = chain(tmp_path)
    per_tensor = {"weights": "per_tensor", "dense": "per_tensor"}

    plain, even = (
        int8(model, context, **per_tensor) for model in (source.data, tflite_equalize.build()(source.data, {}, context))
    )

    assert error(even, source.data, context) < 0.2 * error(plain, source.data, context)


def test_equalization_stops_at_relu6_and_branches(tflite_source, tmp_path, context):
    """Across an activation with an upper end, or where somebody else reads the channels, nothing is changed."""
    capped = chain(tmp_path, activation=RELU6)

    assert tflite_equalize.build()(capped.data, {}, context) == capped.data
    assert tflite_equalize.build()(tflite_source.data, {}, context) == tflite_source.data


def chain(folder: Path, activation: int = schema.ActivationFunctionType.RELU):
    """Return conv, relu, conv with uneven channels, without any branch."""
    w = tiny_models.weights()
    sizes = np.array([30.0, 1.0, 0.1, 0.03], dtype=np.float32)
    first, second = w.first * sizes[:, None, None, None], w.second / sizes
    b = tiny_models.TfliteBuilder()
    shape = [1, tiny_models.SIZE, tiny_models.SIZE, tiny_models.CHANNELS]
    x = b.tensor("image", [1, tiny_models.SIZE, tiny_models.SIZE, 2])
    middle, out = b.tensor("middle", shape), b.tensor("out", shape)
    for source, target, weights, bias, kind in (
        (x, middle, first, w.first_bias * sizes, activation),
        (middle, out, second, w.second_bias, 0),
    ):
        constants = [b.tensor(f"{target}/{i}", list(c.shape), c) for i, c in enumerate((weights, bias))]
        options = tiny_models._convolution(kind)
        b.operator("CONV_2D", [source, *constants], target, options, "Conv2DOptions")
    b.graph.inputs, b.graph.outputs = [x], [out]
    path = folder / "chain.tflite"
    path.write_bytes(bytes(tiny_models.flatbuffer_utils.convert_object_to_bytearray(b.model)))
    return load_source(path)


def test_layer_errors_name_every_operator(tflite_source, context):
    """Each operator of the float model has its error; noise grows along the network."""
    model = int8(tflite_source.data, context)

    errors = layer_errors(tflite_source.data, model, context.calibration, context.source.inputs)

    assert [e.layer for e in errors] == ["first", "second", "added", "mean", "logits", "probabilities"]
    assert all(10 < e.sqnr_db < 80 for e in errors)
    assert errors[0].sqnr_db > errors[1].sqnr_db
    same = layer_errors(tflite_source.data, tflite_source.data, context.calibration, context.source.inputs)
    assert {e.sqnr_db for e in same} == {float("inf")}


def test_the_most_sensitive_layer_comes_first(tflite_source, context):
    """Quantized alone to 4 bits, each layer with weights is listed, the one that hurts the output most first."""
    few = with_samples(context, context.calibration.arrays["x"][:8])

    def but(model: bytes, at: StepContext, kept: tuple[str, ...]) -> bytes:
        return int8(model, at, weight_bits="4", keep_float="\n".join(kept))

    found = sensitivity(tflite_source.data, few, but)

    assert sorted(e.layer for e in found) == ["first", "logits", "second"]
    alone = [e.alone_sqnr_db for e in found]
    assert alone == sorted(alone)
    kept = int8(tflite_source.data, few, weight_bits="4", io="float32", keep_float=found[0].layer)
    others = int8(tflite_source.data, few, weight_bits="4", io="float32", keep_float=found[-1].layer)
    assert error(kept, tflite_source.data, few) < error(others, tflite_source.data, few)


def test_operators_that_stay_float_are_named(tflite_source):
    """What the engine has no int8 rule for is named; what it covers, and what computes indices only, is not."""
    real = TensorFacts(name="t", dtype="float32", shape=(1, 4), constant=False, channel_scales=0)
    index = replace(real, dtype="int32")

    def operator(name: str, tensor: TensorFacts = real) -> OperatorFacts:
        return OperatorFacts(name=name, version=1, fused_activation="NONE", inputs=(tensor,), outputs=(tensor,))

    names = ("LSTM", "PRELU", "LEAKY_RELU", "SQUEEZE", "CONV_2D", "RESHAPE", "TRANSPOSE_CONV", "SOFTMAX")
    facts = replace(
        tflite_source.facts, operators=(*(operator(name) for name in names), operator("EXPAND_DIMS", index))
    )

    assert uncovered_operators(facts) == ("LEAKY_RELU", "LSTM", "PRELU", "SQUEEZE")
    assert uncovered_operators(tflite_source.facts) == ()
