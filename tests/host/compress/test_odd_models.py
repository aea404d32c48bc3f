"""Models that are files of their format and yet fit nothing: references into nowhere, no batch, foreign indices."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from ai_edge_litert.tools import flatbuffer_utils
from onnx import TensorProto, helper, numpy_helper

from edgepick_host.cli.main import run
from edgepick_host.compress import tflite_file
from edgepick_host.compress.source import load_source
from edgepick_host.errors import InputFileError

NOWHERE = 10_000


def referring(what: str, parsed, index: int) -> None:
    """Have one reference of a parsed model point to ``index``."""
    graph = parsed.subgraphs[0]
    if what == "input":
        graph.inputs = [index]
    elif what == "output":
        graph.outputs = [index]
    elif what == "operand":
        graph.operators[0].inputs = [index, *graph.operators[0].inputs[1:]]
    elif what == "result":
        graph.operators[0].outputs = [index]
    elif what == "code":
        graph.operators[0].opcodeIndex = index
    else:
        graph.tensors[0].buffer = index


@pytest.mark.parametrize("what", ["input", "output", "operand", "result", "code", "buffer"])
@pytest.mark.parametrize("index", [NOWHERE, -2])
def test_a_reference_into_nowhere_is_damage(files, tmp_path, what, index):
    """A tensor, an operator's code or a buffer that is not there is refused before anything looks it up."""
    if what in ("code", "buffer") and index < 0:
        index = NOWHERE + 1  # these fields have no sign
    parsed = tflite_file.read(files.tflite.read_bytes(), files.tflite)
    referring(what, parsed, index)
    model = tmp_path / "odd.tflite"
    model.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(parsed)))

    with pytest.raises(InputFileError, match=r"odd.tflite: .*damaged"):
        load_source(model)


def written(path: Path, nodes, x, y, **constants) -> Path:
    graph = helper.make_graph(nodes, "odd", [x], [y], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def refused(model: Path, x: np.ndarray, folder: Path, capsys) -> str:
    """Return what a refused compression says."""
    data = str(tiny_models.save(folder / "data.npz", x=x))
    asked = ["--profile", "generic-linux", "--recipe", "float32", "--workers", "1", "--no-cache"]
    code = run(["compress", str(model), *asked, "--calibration", data, "--evaluation", data, "--out", f"{folder}/out"])
    said = capsys.readouterr().err

    assert code == 2, said
    assert "bug" not in said
    return said


def test_an_answer_without_a_batch_is_named(tmp_path, capsys):
    """An output that is one number for everything is no answer to a sample."""
    model = written(
        tmp_path / "sum.onnx", [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, []),
    )  # fmt: skip

    assert "'y' is a single number" in refused(model, np.ones((3, 8), np.float32), tmp_path, capsys)


def test_samples_that_the_model_cannot_look_up_are_named(tmp_path, capsys):
    """Indices beyond an embedding's rows are the data's fault, in the runtime's words."""
    model = written(
        tmp_path / "words.onnx",
        [helper.make_node("Gather", ["rows", "x"], ["s"]), helper.make_node("Flatten", ["s"], ["y"])],
        helper.make_tensor_value_info("x", TensorProto.INT64, [1, 2]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6]),
        rows=np.ones((20, 3), np.float32),
    )  # fmt: skip

    said = refused(model, np.full((3, 2), 25), tmp_path, capsys)

    assert "words.onnx: does not run" in said
    assert "indices element out of data bounds" in said
