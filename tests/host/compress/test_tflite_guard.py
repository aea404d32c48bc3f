"""Each trap of the quantizer and the guard against it, on models of our own."""

from pathlib import Path

import numpy as np
import pytest
import tiny_models
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_host.compress import tflite_file, tflite_guard, tflite_ranges, tflite_weights
from edgepick_host.compress.arena import measure_arena
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.observers import Method
from edgepick_host.compress.passes import tflite_dynamic_int8, tflite_float16, tflite_prune, tflite_static_int8
from edgepick_host.compress.predictor import TflitePredictor, predict
from edgepick_host.compress.source import load_source
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.tflite_guard import StaticOptions
from edgepick_host.compress.tflite_static import StaticQuantizer
from edgepick_host.core.recipes import RECIPES
from edgepick_host.core.verify import MAX_TFLM_LSB, engine_objection
from edgepick_host.errors import CompressionError, InputFileError
from edgepick_wire.manifest import ModelFormat

WHERE = Path("model.tflite")
INT8 = {"weights": "per_channel", "dense": "per_channel", "io": "int8"}
STATIC = RECIPES["static_wi8_ai8", ModelFormat.TFLITE]


def describe(model: bytes):
    return tflite_file.describe(model, WHERE)


def context_for(path: Path, calibration: Path) -> StepContext:
    return StepContext(calibration=load_dataset(calibration), source=load_source(path).facts)


def min_max(model: bytes, context: StepContext):
    """Return the least and largest values as the quantizer takes them."""
    asked = tflite_ranges.template(model, tflite_guard.static_recipe(StaticOptions()), context)
    seen = tflite_ranges.observed(model, context)
    return tflite_ranges.filled(asked, tflite_ranges.calibrated(seen, context, method=Method.MINMAX))


def written(folder: Path, data: bytes) -> Path:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return path


def test_full_int8_leaves_no_float_tensor(tflite_source, context):
    """The integer-only recipe ends without any float tensor, inputs and outputs included."""
    facts = describe(tflite_static_int8.build()(tflite_source.data, INT8, context))

    assert facts.float_tensors == ()
    assert {tensor.dtype for tensor in (*facts.inputs, *facts.outputs)} == {"int8"}
    assert facts.narrow_constants
    assert engine_objection(STATIC, facts) is None


def test_float_io_keeps_only_the_ends_float(tflite_source, context):
    """The float-I/O recipe has float inputs and outputs, and int8 weights and activations between them."""
    facts = describe(tflite_static_int8.build()(tflite_source.data, INT8 | {"io": "float32"}, context))

    assert {tensor.dtype for tensor in (*facts.inputs, *facts.outputs)} == {"float32"}
    assert len(facts.float_tensors) == 2
    assert facts.narrow_constants


def test_dense_layers_are_per_tensor_where_asked(tflite_source, context):
    """With per-tensor dense weights the convolutions keep a scale per channel, and the dense layer has one."""
    facts = describe(tflite_static_int8.build()(tflite_source.data, INT8 | {"dense": "per_tensor"}, context))

    scales = {operator.name: operator.inputs[1].channel_scales for operator in facts.operators if operator.inputs[1:]}
    assert scales["FULLY_CONNECTED"] == 1
    assert scales["CONV_2D"] == tiny_models.CHANNELS


def test_operator_versions_are_the_converters(tflite_source, context):
    """Int8 operators carry the versions that TensorFlow's converter writes, which old runtimes check."""
    facts = describe(tflite_static_int8.build()(tflite_source.data, INT8, context))

    versions = {operator.name: operator.version for operator in facts.operators}
    assert versions == {"CONV_2D": 3, "ADD": 2, "MEAN": 2, "FULLY_CONNECTED": 4, "SOFTMAX": 2}


def test_calibration_order_changes_nothing(tflite_source, context, files, shuffled):
    """Shuffled calibration samples give the identical file."""
    other = StepContext(calibration=load_dataset(shuffled), source=tflite_source.facts)

    a = tflite_static_int8.build()(tflite_source.data, INT8, context)
    b = tflite_static_int8.build()(tflite_source.data, INT8, other)

    assert a == b


def test_every_sample_counts(tflite_source, context, files, tmp_path):
    """One outlier widens the input's range fully, wherever it stands: nothing is averaged away."""
    with np.load(files.calibration) as archive:
        x = archive["x"].copy()
    x[17, 0, 0, 0] = 100.0
    outlier = load_dataset(tiny_models.save(tmp_path / "outlier.npz", x=x))
    wide = StepContext(calibration=outlier, source=tflite_source.facts)

    ranges = StaticQuantizer(tflite_source.data, StaticOptions(), wide).calibrated(wide, Method.MINMAX)

    assert ranges["image"][1] == 100.0


def test_large_models_keep_their_buffers_inside(files, tmp_path):
    """Above 256 KiB of weights, where the quantizer moves buffers out, the file is written whole and answers alike."""
    wide = written(tmp_path, tiny_models.tflite_model(tiny_models.weights(hidden=192)))
    source, context = load_source(wide), context_for(wide, files.calibration)

    with tflite_guard.quiet():
        engine = tflite_guard.quantizer.Quantizer(bytearray(source.data))
        engine.load_quantization_recipe(tflite_guard.static_recipe(StaticOptions()))
        ranges = min_max(source.data, context)
        unguarded = bytes(engine.quantize(ranges, enable_progress_report=False).quantized_model)
    guarded = tflite_static_int8.build()(source.data, INT8, context)

    assert describe(unguarded).external_buffers > 0
    assert describe(guarded).external_buffers == 0
    golden = load_dataset(files.evaluation).subset(range(2))
    assert np.array_equal(
        predict(TflitePredictor(guarded), golden, source.facts.inputs),
        predict(TflitePredictor(unguarded), golden, source.facts.inputs),
    )
    arena = measure_arena(guarded, golden, source.facts.inputs)
    assert arena.failure == ""
    assert arena.max_lsb <= MAX_TFLM_LSB


def test_opcodes_in_the_deprecated_field_only_are_not_a_silent_no_op(files, tmp_path, context):
    """A model of an old converter, which the quantizer would return unchanged, is really quantized."""
    old = tiny_models.tflite_model(tiny_models.weights(), deprecated_only=True)
    source = load_source(written(tmp_path, old))

    raw = tflite_guard.quantize(old, tflite_guard.dynamic_recipe(weights="per_channel", dense="per_tensor"))
    quantized = tflite_static_int8.build()(source.data, INT8, context)

    assert describe(raw).narrow_constants == ()
    assert "changed nothing" in str(engine_objection(STATIC, describe(raw)))
    assert engine_objection(STATIC, describe(quantized)) is None


def test_a_model_without_signature_is_calibrated(files, tmp_path):
    """A missing SignatureDef, with which calibration raises, is added."""
    path = written(tmp_path, tiny_models.tflite_model(tiny_models.weights(), signature=False))

    quantized = tflite_static_int8.build()(load_source(path).data, INT8, context_for(path, files.calibration))

    assert describe(quantized).float_tensors == ()


def test_an_open_batch_becomes_one(files, tmp_path):
    """A batch of -1 is fixed to 1, and nothing in the file is open any more."""
    path = written(tmp_path, tiny_models.tflite_model(tiny_models.weights(), batch=-1))

    source = load_source(path)

    parsed = tflite_file.read(source.data, WHERE)
    assert source.facts.inputs[0].shape == (1, tiny_models.SIZE, tiny_models.SIZE, 2)
    assert all(tensor.shapeSignature is None for tensor in parsed.subgraphs[0].tensors)


def test_normalising_does_not_change_the_function(files, tmp_path):
    """The normalised model answers bit for bit as the given one."""
    raw = tiny_models.tflite_model(tiny_models.weights(), deprecated_only=True, signature=False)
    source = load_source(written(tmp_path, raw))
    data = load_dataset(files.evaluation)

    before = predict(TflitePredictor(raw), data, source.facts.inputs)
    after = predict(TflitePredictor(source.data), data, source.facts.inputs)

    assert np.array_equal(before, after)


def with_overflowing_bias() -> tiny_models.Weights:
    """Return weights whose first layer has a channel of nearly nothing under a large bias."""
    w = tiny_models.weights()
    w.first[0] *= np.float32(1e-9)
    w.first_bias[0] = np.float32(12.0)
    return w


def test_a_bias_that_does_not_fit_is_not_left_in_the_model(files, tmp_path):
    """A channel whose bias would overflow 32 bits makes its layer per tensor, and the sign stays right."""
    path = written(tmp_path, tiny_models.tflite_model(with_overflowing_bias()))
    source, context = load_source(path), context_for(path, files.calibration)
    ranges = min_max(source.data, context)

    unguarded = tflite_guard.quantize(source.data, tflite_guard.static_recipe(StaticOptions()), ranges)
    guarded = tflite_static_int8.build()(source.data, INT8, context)

    assert describe(unguarded).saturated_biases != ()
    assert "32 bits" in str(engine_objection(STATIC, describe(unguarded)))
    assert describe(guarded).saturated_biases == ()
    evaluation = load_dataset(files.evaluation)
    floats = predict(TflitePredictor(source.data), evaluation, source.facts.inputs)
    found = predict(TflitePredictor(guarded), evaluation, source.facts.inputs)
    assert np.mean(np.argmax(floats, axis=1) == np.argmax(found, axis=1)) > 0.9


def test_tflite_micro_answers_as_litert_does(tflite_source, context, files):
    """The microcontroller's interpreter is within 3 steps of LiteRT's reference kernels on a real run."""
    model = tflite_static_int8.build()(tflite_source.data, INT8, context)

    arena = measure_arena(model, load_dataset(files.evaluation).subset(range(16)), tflite_source.facts.inputs)

    assert arena.failure == ""
    assert arena.max_lsb <= MAX_TFLM_LSB
    assert 0 < arena.recorded_bytes <= arena.arena_bytes <= 1.25 * arena.recorded_bytes + 512


def test_hybrid_models_are_refused_by_tflite_micro(tflite_source, context, files):
    """A dynamic-range model does not run on a microcontroller, and the interpreter's own words say why."""
    dynamic = {"weights": "per_channel", "dense": "per_tensor"}
    model = tflite_dynamic_int8.build()(tflite_source.data, dynamic, context)

    arena = measure_arena(model, load_dataset(files.evaluation).subset(range(2)), tflite_source.facts.inputs)

    assert "hybrid" in arena.failure.lower()


def test_a_crash_of_the_interpreter_is_a_finding(tflite_source, files, monkeypatch):
    """When the child process dies of a signal, the model is refused with that, and this process lives on."""
    monkeypatch.setattr("edgepick_host.compress.arena._run_child", lambda folder: (-11, ""))

    arena = measure_arena(
        tflite_source.data, load_dataset(files.evaluation).subset(range(1)), tflite_source.facts.inputs
    )

    assert arena.failure == "its process was killed by signal 11"


def test_float16_halves_weights_and_keeps_the_answers(tflite_source, context, files):
    """Weights are float16 behind a DEQUANTIZE, and answers stay within float16's precision."""
    model = tflite_float16.build()(tflite_source.data, {}, context)

    facts, data = describe(model), load_dataset(files.evaluation)
    assert {tensor.dtype for tensor in facts.narrow_constants} == {"float16"}
    assert {tensor.dtype for tensor in (*facts.inputs, *facts.outputs)} == {"float32"}
    error = np.abs(
        predict(TflitePredictor(model), data, facts.inputs)
        - predict(TflitePredictor(tflite_source.data), data, facts.inputs)
    )
    assert 0 < error.max() < 0.02


def test_pruning_zeroes_half_of_each_layer(tflite_source, context):
    """Half of every layer's weights become zero, those of least magnitude; biases stay."""
    model = tflite_prune.build()(tflite_source.data, {"share": "0.5"}, context)

    before, after = (tflite_file.read(data, WHERE) for data in (tflite_source.data, model))
    for a, b in zip(weights_of(before), weights_of(after), strict=True):
        assert np.count_nonzero(b == 0) == b.size // 2
        assert np.abs(a[b == 0]).max() <= np.abs(b[b != 0]).min()
        assert np.array_equal(a[b != 0], b[b != 0])


def weights_of(model) -> list[np.ndarray]:
    graph = model.subgraphs[0]
    chosen = [op for op in graph.operators if tflite_file.operator_name(model, op) in tflite_weights.LAYERS]
    return [tflite_file.constant_bytes(model, graph.tensors[op.inputs[1]]).view(np.float32) for op in chosen]


@pytest.mark.parametrize("share", ["", "1", "-0.1", "half"])
def test_a_share_that_is_none_is_refused(tflite_source, context, share):
    """Pruning everything, less than nothing, or an unreadable share is an error, not a guess."""
    with pytest.raises(CompressionError, match="share"):
        tflite_prune.build()(tflite_source.data, {"share": share}, context)


def test_unknown_parameters_are_refused(tflite_source, context):
    """A parameter outside of its list is named with what is allowed."""
    with pytest.raises(CompressionError, match="per_channel, per_tensor"):
        tflite_static_int8.build()(tflite_source.data, INT8 | {"dense": "per_block"}, context)


@settings(max_examples=150, deadline=None)
@given(st.integers(min_value=0, max_value=10**6))
def test_a_truncated_model_is_an_error_wherever_it_is_cut(cut):
    """A file cut at any byte is refused as damaged, or is whole in everything that is read."""
    whole = tiny_models.tflite_model(tiny_models.weights())
    part = whole[: cut % len(whole)]

    with pytest.raises(InputFileError, match=r"damaged or truncated|not a \.tflite"):
        tflite_file.describe(part, WHERE)


def test_a_buffer_behind_the_end_is_noticed(tflite_source):
    """External offsets that point behind the file's end are damage, not short data."""
    model = tflite_file.read(tflite_source.data, WHERE)
    buffer = schema.BufferT()
    buffer.offset, buffer.size = 1 << 20, 64
    model.buffers.append(buffer)
    data = bytes(flatbuffer_utils.convert_object_to_bytearray(model))

    with pytest.raises(InputFileError, match="damaged"):
        tflite_file.read(data, WHERE)
