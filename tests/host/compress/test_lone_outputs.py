"""Models with a single output, of which the arg-max says nothing: two classes, or a number."""

import json

import numpy as np
import onnx
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from edgepick_host.cli.main import run
from edgepick_host.compress.quality import answers, middle_of

WEIGHTS = np.random.default_rng(0).normal(size=(8, 1)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(64, 8)).astype(np.float32)
LOGITS = (X @ WEIGHTS)[:, 0]


@pytest.fixture
def classifier(tmp_path):
    """Provide a model of one layer and one sigmoid, as a file."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Sigmoid", ["z"], ["y"])],
        "binary",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    path = tmp_path / "binary.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def compressed(model, labels, folder):
    """Return the exit code of a compression to float32, with these labels."""
    data = tiny_models.save(folder / "data.npz", x=X, y=labels)
    given = ["--profile", "generic-linux", "--recipe", "float32", "--workers", "1", "--no-cache", "--json"]
    return run(["compress", str(model), *given, "--calibration", str(data), "--evaluation", str(data),
                "--out", str(folder / "out")])  # fmt: skip


@pytest.mark.parametrize("right", [1.0, 0.25])
def test_a_sigmoid_is_judged_by_its_two_classes(classifier, tmp_path, capsys, right):
    """Its accuracy is the share of samples on the right side of one half."""
    labels = (LOGITS > 0).astype(np.int64)
    labels[int(len(X) * right) :] ^= 1

    assert compressed(classifier, labels, tmp_path) == 0
    assert json.loads(capsys.readouterr().out)["float_accuracy"] == right


def test_labels_of_a_lone_output_are_zero_and_one(classifier, tmp_path, capsys):
    """A third class is refused by its place, before any work."""
    labels = (LOGITS > 0).astype(np.int64)
    labels[5] = 2

    assert compressed(classifier, labels, tmp_path) == 2
    assert "y[5] is 2; the model has 2 classes, 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reference", "middle"),
    [([0.1, 0.9, 0.4], 0.5), ([-3.0, 2.0, 0.5], 0.0), ([20.0, 22.0, 27.0], 22.0), ([0.9, 0.7, 0.8], 0.8)],
    ids=["probabilities", "logits", "a temperature", "one class only"],
)
def test_the_middle_of_a_lone_output(reference, middle):
    """Classes part at 0.5 or 0; a number that is on one side of that anyway is judged by its median."""
    assert middle_of(np.array(reference, np.float32).reshape(-1, 1)) == pytest.approx(middle)


@given(arrays.arrays(np.float32, st.tuples(st.integers(2, 20), st.just(1)), elements=st.floats(-9, 9, width=32)))
def test_a_lone_output_that_varies_has_two_answers(reference):
    """No model of one output passes for right whatever it says, unless it says one thing only."""
    found = answers(reference, middle_of(reference))

    assert len(np.unique(found)) == 2 or middle_of(reference) == reference.max()
