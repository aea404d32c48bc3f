"""Rewrites of float models, in both formats: clean-up, clustering, low rank, pruning patterns."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from edgepick_host import app
from edgepick_host.compress import onnx_file, tflite_file
from edgepick_host.compress.codebook import clustered, clusters_of
from edgepick_host.compress.dataset import load_dataset
from edgepick_host.compress.low_rank import energy_of, factorize
from edgepick_host.compress.magnitude import two_of_four
from edgepick_host.compress.onnx_weights import layers as onnx_layers
from edgepick_host.compress.predictor import open_predictor, predict
from edgepick_host.compress.same_answers import check_same_answers
from edgepick_host.compress.step import StepContext
from edgepick_host.compress.tflite_weights import layers as tflite_layers
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat

FORMATS = ("tflite", "onnx")

MATRICES = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.floats(-8, 8, width=32).map(lambda value: np.float32(round(value, 2))),
)


def run_pass(name: str, model: bytes, context: StepContext, **parameters: str) -> bytes:
    return app.compression_pass(name)(model, parameters, context)


def answers(model: bytes, name: str, context: StepContext) -> np.ndarray:
    return predict(open_predictor(model, ModelFormat(name)), context.calibration, context.source.inputs)


def weights_of(data: bytes, name: str) -> list[np.ndarray]:
    if name == "tflite":
        return [layer.weights for layer in tflite_layers(tflite_file.read(data, Path("m")))]
    return [layer.weights for layer in onnx_layers(onnx_file.read(data, Path("m")))]


def operators(data: bytes, name: str) -> int:
    return len({"tflite": tflite_file, "onnx": onnx_file}[name].describe(data, Path("m")).operators)


def constants(data: bytes, name: str) -> int:
    """Return how many numbers a file stores."""
    tensors = {"tflite": tflite_file, "onnx": onnx_file}[name].describe(data, Path("m")).tensors
    return sum(int(np.prod(tensor.shape)) for tensor in tensors if tensor.constant)


@pytest.fixture(params=FORMATS)
def case(request, tflite_source, onnx_source, context, onnx_context):
    """Provide format, float model and context."""
    source, seen = {"tflite": (tflite_source, context), "onnx": (onnx_source, onnx_context)}[request.param]
    return request.param, source.data, seen


def with_leftovers(w: tiny_models.Weights) -> bytes:
    """Return the tiny model with everything that an exporter may leave behind.

    A batch norm as MUL and ADD and a lone RELU after a convolution, a RESHAPE to the same shape, a scale that is
    computed from two constants, and a branch that nobody reads.
    """
    model = flatbuffer_utils.read_model_from_bytearray(tiny_models.tflite_model(w))
    graph = model.subgraphs[0]
    b = tiny_models.TfliteBuilder()
    b.model, b.graph = model, graph
    shape = [1, tiny_models.SIZE, tiny_models.SIZE, tiny_models.CHANNELS]
    channel = np.linspace(0.5, 2, tiny_models.CHANNELS).astype(np.float32)
    half = b.tensor("half", [tiny_models.CHANNELS], channel / 2)
    scale, shift = b.tensor("scale", [tiny_models.CHANNELS]), b.tensor("shift", [tiny_models.CHANNELS], channel - 1)
    raw, scaled, moved, shaped, unread = (
        b.tensor(name, shape) for name in ("raw", "scaled", "moved", "shaped", "unread")
    )
    size = b.tensor("size", [4], np.array(shape, dtype=np.int32))
    first = graph.operators[0]
    target = int(first.outputs[0])
    first.outputs = [raw]
    first.builtinOptions.fusedActivationFunction = 0
    rest, graph.operators = graph.operators[1:], graph.operators[:1]
    b.operator("ADD", [half, half], scale, schema.AddOptionsT(), "AddOptions")
    b.operator("MUL", [raw, scale], scaled, schema.MulOptionsT(), "MulOptions")
    b.operator("ADD", [shift, scaled], moved, schema.AddOptionsT(), "AddOptions")
    b.operator("RELU", [moved], shaped, None, "NONE")
    b.operator("RESHAPE", [shaped, size], target, schema.ReshapeOptionsT(), "ReshapeOptions")
    b.operator("MUL", [target, shaped], unread, schema.MulOptionsT(), "MulOptions")
    graph.operators += rest
    return tflite_file.write(model)


def test_what_an_exporter_left_behind_is_cleaned_away(context):
    """Batch norm, lone activation, identity, computed constant and dead branch go; the answers stay."""
    before = with_leftovers(tiny_models.weights(3))

    after = run_pass("tflite_cleanup", before, context)

    names = [operator.name for operator in tflite_file.describe(after, Path("m")).operators]
    assert names == ["CONV_2D", "CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED", "SOFTMAX"]
    assert len(after) < len(before)
    assert answers(after, "tflite", context) == pytest.approx(answers(before, "tflite", context), abs=1e-5)


def test_a_clean_model_stays_as_it_is(case):
    """A graph without leftovers keeps its operators and its answers."""
    name, model, context = case

    after = run_pass(f"{name}_cleanup", model, context)

    assert answers(after, name, context) == pytest.approx(answers(model, name, context), abs=1e-6)
    assert [w.shape for w in weights_of(after, name)] == [w.shape for w in weights_of(model, name)]


def test_onnx_batch_norms_and_dropouts_go_into_the_convolution(onnx_context):
    """A BatchNormalization, an Identity and a branch that nobody reads are gone; the answers stay."""
    model = onnx.load_model_from_string(tiny_models.onnx_model(tiny_models.weights()))
    rng = np.random.default_rng(0)
    for name in ("scale", "shift", "mean", "variance"):
        array = rng.uniform(0.5, 1.5, tiny_models.CHANNELS).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.node[1].output[0] = "raw"
    norm = helper.make_node("BatchNormalization", ["raw", "scale", "shift", "mean", "variance"], ["normed"], "norm")
    model.graph.node.insert(2, norm)
    model.graph.node.insert(3, helper.make_node("Identity", ["normed"], ["c1"], "same"))
    model.graph.node.append(helper.make_node("Neg", ["c1"], ["unread"], "dead"))
    before = model.SerializeToString()

    after = run_pass("onnx_cleanup", before, onnx_context)

    kinds = {operator.name for operator in onnx_file.describe(after, Path("m")).operators}
    assert kinds.isdisjoint({"BatchNormalization", "Identity", "Neg"})
    assert answers(after, "onnx", onnx_context) == pytest.approx(answers(before, "onnx", onnx_context), abs=1e-4)


def test_a_wrong_rewrite_is_noticed(tflite_source, context):
    """A model that answers otherwise than before is refused."""
    other = tiny_models.tflite_model(tiny_models.weights(seed=9))

    with pytest.raises(CompressionError, match="answers otherwise"):
        check_same_answers(tflite_source.data, other, ModelFormat.TFLITE, context)


def test_clustered_layers_hold_few_values_and_compress(case):
    """After clustering, no layer has more values than asked for, and the model still runs."""
    name, model, context = case

    after = run_pass(f"{name}_cluster", model, context, clusters="4")

    assert max(len(np.unique(weights)) for weights in weights_of(after, name)) <= 4
    assert answers(after, name, context).shape == answers(model, name, context).shape


def test_full_energy_with_a_layer_of_low_rank_answers_the_same(case):
    """A layer whose weights have rank 1 becomes two thin layers with the same answers."""
    name, _, context = case
    w = tiny_models.weights()
    rng = np.random.default_rng(1)
    w.second = (rng.normal(size=(4, 1)) @ rng.normal(size=(1, 36))).astype(np.float32).reshape(4, 3, 3, 4)
    w.dense = (rng.normal(size=(5, 1)) @ rng.normal(size=(1, 4))).astype(np.float32)
    model = {"tflite": tiny_models.tflite_model, "onnx": tiny_models.onnx_model}[name](w)

    after = run_pass(f"{name}_low_rank", model, context, energy="0.9999")

    assert operators(after, name) == operators(model, name) + 2
    assert constants(after, name) < constants(model, name)
    assert answers(after, name, context) == pytest.approx(answers(model, name, context), abs=1e-4)


def test_matrix_products_are_factorized_in_the_files_own_orientation(tmp_path):
    """A MatMul with weights ``[in, out]`` of rank 1 becomes two with the same answers."""
    model = onnx.load_model_from_string(tiny_models.dense_onnx())
    thin = np.outer(np.arange(1, 7), np.linspace(-1, 1, 32)).astype(np.float32)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(thin, "a"))
    data = load_dataset(tiny_models.save(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(8, 6))))
    facts = onnx_file.describe(model.SerializeToString(), Path("m"))
    context = StepContext(calibration=data, source=facts)

    after = run_pass("onnx_low_rank", model.SerializeToString(), context, energy="0.99999")

    expected = answers(model.SerializeToString(), "onnx", context)
    assert [node.op_type for node in onnx_file.read(after, Path("m")).graph.node].count("MatMul") == 3
    assert answers(after, "onnx", context) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_model_without_redundancy_is_not_factorized(case):
    """Where no layer would become smaller, the pass says so instead of changing nothing silently."""
    name, model, context = case

    with pytest.raises(CompressionError, match="no layer has a rank low enough"):
        run_pass(f"{name}_low_rank", model, context, energy="1")


def test_two_of_four_lies_along_the_input_channels(case):
    """In each group of four input channels, two weights are zero, in both formats' own layouts."""
    name, model, context = case

    after = run_pass(f"{name}_prune", model, context, pattern="2:4")

    axis = -1 if name == "tflite" else 1
    for weights in weights_of(after, name):
        channels_last = np.moveaxis(weights, axis, -1)
        if channels_last.shape[-1] % 4 == 0:
            assert (np.count_nonzero(channels_last.reshape(-1, 4), axis=1) <= 2).all()


def test_weights_shared_by_two_layers_change_once(context):
    """A buffer that two layers read is clustered once, and both still read it."""
    parsed = flatbuffer_utils.read_model_from_bytearray(tiny_models.tflite_model(tiny_models.weights()))
    graph = parsed.subgraphs[0]
    dense = next(t for t in graph.tensors if t.name == b"dense/w")
    twin = schema.TensorT()
    twin.name, twin.shape, twin.type, twin.buffer = b"twin", dense.shape, TensorProto.UNDEFINED, dense.buffer
    graph.tensors.append(twin)

    after = run_pass("tflite_cluster", tflite_file.write(parsed), context, clusters="3")

    model = tflite_file.read(after, Path("m"))
    buffers = [tensor.buffer for tensor in model.subgraphs[0].tensors if tensor.name in {b"dense/w", b"twin"}]
    assert len(set(buffers)) == 1


@given(MATRICES, st.integers(2, 6))
def test_clustering_keeps_zeros_and_bounds(weights, clusters):
    """Clusters number at most what was asked for, zeros stay, no value leaves the range, twice changes nothing."""
    shared = clustered(weights, clusters)

    values = np.unique(shared[shared != 0])
    assert len(values) <= clusters
    assert (shared[weights == 0] == 0).all()
    assert shared.min() >= weights.min() - 1e-5
    assert shared.max() <= weights.max() + 1e-5
    assert np.array_equal(clustered(shared, clusters), shared)


@given(MATRICES, st.floats(0.3, 1))
def test_factors_keep_the_energy_and_are_smaller(matrix, energy):
    """Where a matrix is factorized, the factors hold fewer numbers and miss at most the energy that was let go."""
    factors = factorize(matrix, energy)

    if factors is not None:
        left, right = factors
        missed = np.sum((matrix.astype(np.float64) - left @ right) ** 2)
        assert left.size + right.size < matrix.size
        assert missed <= (1 - energy + 1e-4) * np.sum(matrix.astype(np.float64) ** 2)


@given(MATRICES)
def test_two_of_four_keeps_the_larger_two(weights):
    """Of every whole group of four, what is left is at least as large as what went; the rest of a row is untouched."""
    kept = two_of_four(weights)

    whole = weights.shape[-1] // 4 * 4
    groups, left = weights[..., :whole].reshape(-1, 4), kept[..., :whole].reshape(-1, 4)
    assert (np.count_nonzero(left, axis=1) <= 2).all()
    assert np.allclose(np.sort(np.abs(left), axis=1)[:, 2:], np.sort(np.abs(groups), axis=1)[:, 2:])
    assert np.array_equal(kept[..., whole:], weights[..., whole:])


@pytest.mark.parametrize("text", ["", "1", "257", "-3", "x", "²"])
def test_a_wrong_number_of_clusters_is_named(text):
    """Anything but a number from 2 to 256 is refused with what is allowed."""
    with pytest.raises(CompressionError, match="from 2 to 256"):
        clusters_of(text)


@pytest.mark.parametrize("text", ["", "0", "1.01", "nan", "x"])
def test_a_wrong_energy_is_named(text):
    """Anything but a share above 0 and at most 1 is refused with what is allowed."""
    with pytest.raises(CompressionError, match="above 0 and at most 1"):
        energy_of(text)
