"""What is not a model, not data, or not a folder for results is refused, clearly and before any work."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_models
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from click.testing import CliRunner

from edgepick_host.app import compression
from edgepick_host.cli.compress import compress
from edgepick_host.compress import pipeline, tflite_file, tflite_guard
from edgepick_host.compress.source import load_source
from edgepick_host.errors import HostError, InputFileError, MissingExtraError
from edgepick_profiles.errors import ProfileError

X = tiny_models.images(6)


def invoke(files, out: Path, *, model=None, calibration=None, evaluation=None, profile="raspberry-pi-3", more=()):
    return CliRunner().invoke(
        compress,
        [
            *map(str, model if isinstance(model, list) else [model or files.tflite]),
            *("--profile", profile, "--recipe", "float32", "--out", str(out), "--no-cache", "--workers", "1"),
            *("--calibration", str(calibration or files.calibration)),
            *("--evaluation", str(evaluation or files.evaluation)),
            *more,
        ],
    )


def refused(result, out: Path) -> HostError:
    """Return the error of a refused run, after showing that it left nothing behind."""
    assert isinstance(result.exception, HostError), result.output
    assert result.exception.exit_code == 2
    assert not out.exists()
    assert not list(out.parent.glob(f".{out.name}*"))
    return result.exception


@pytest.fixture
def out(tmp_path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder / "out"


ARCHIVES = {
    "no x": ({"y": np.zeros(6, np.int64)}, "holds no x; found y"),
    "wrong shape": ({"x": X[:, :4]}, "x has samples of shape [4, 8, 2]; the model's input 'x' is [8, 8, 2]"),
    "channels first": ({"x": X.transpose(0, 3, 1, 2)}, "channels first against channels last"),
    "text": ({"x": np.array(["a", "b"])}, "expected a real numeric type"),
    "complex": ({"x": X.astype(np.complex64)}, "complex64"),
    "objects": ({"x": np.array([{}, {}], dtype=object)}, "nothing is unpickled"),
    "empty": ({"x": X[:0]}, "is empty"),
    "scalar": ({"x": np.float32(1)}, "is empty"),
    "NaN": ({"x": np.where(np.arange(X.size).reshape(X.shape) == 5, np.nan, X)}, "x[0, 0, 2, 1] is nan"),
    "infinite": ({"x": np.where(np.arange(X.size).reshape(X.shape) == 0, np.inf, X)}, "x[0, 0, 0, 0] is inf"),
    "too large": ({"x": X.astype(np.float64) * 1e300}, "finite in float32"),
    "labels of another length": ({"x": X, "y": np.zeros(5, np.int64)}, "y has the shape [5]; x has 6 samples"),
    "one-hot labels": ({"x": X, "y": np.eye(6, 5, dtype=np.int64)}, "y has the shape [6, 5]"),
    "float labels": ({"x": X, "y": np.zeros(6)}, "labels are integers"),
    "label too high": ({"x": X, "y": np.array([0, 1, 5, 0, 0, 0])}, "y[2] is 5; the model has 5 classes, 0 to 4"),
    "label negative": ({"x": X, "y": np.array([0, -1, 4, 0, 0, 0])}, "y[1] is -1"),
    "several inputs": ({"x_a": X, "x_b": X}, "holds no x for the model's input"),
    "unequal inputs": ({"x": X, "x_b": X[:3]}, "differ in length"),
}


@pytest.mark.parametrize("role", ["calibration", "evaluation"])
@pytest.mark.parametrize("case", ARCHIVES)
def test_wrong_data_is_named(files, out, case, role):
    """Each kind of wrong archive is refused, naming the file, what was found and what is expected."""
    arrays, said = ARCHIVES[case]
    archive = tiny_models.save(out.parent.parent / "data.npz", **arrays)

    error = refused(invoke(files, out, **{role: archive}), out)

    assert isinstance(error, InputFileError)
    assert str(archive) in str(error)
    assert said in str(error)
    assert "npz" in error.hint


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 half a zip"])
def test_what_is_no_archive_is_named(files, out, content):
    """An empty file, text, and half a zip file are not archives."""
    archive = out.parent.parent / "data.npz"
    archive.write_bytes(content)

    assert "not a readable .npz" in str(refused(invoke(files, out, evaluation=archive), out))


def test_a_truncated_archive_is_named(files, out):
    """An archive cut in the middle is refused."""
    archive = out.parent.parent / "data.npz"
    archive.write_bytes(files.calibration.read_bytes()[:-100])

    assert "not a readable .npz" in str(refused(invoke(files, out, calibration=archive), out))


def test_a_damaged_archive_is_named(files, out):
    """An archive whose content does not match its checksum is refused."""
    data = bytearray(files.calibration.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive = out.parent.parent / "data.npz"
    archive.write_bytes(data)

    assert "not a readable .npz" in str(refused(invoke(files, out, calibration=archive), out))


def test_a_single_array_is_named(files, out):
    """An ``.npy`` under another name is told apart from an archive."""
    archive = out.parent.parent / "data.npz"
    with archive.open("wb") as file:
        np.save(file, X)

    assert ".npy" in str(refused(invoke(files, out, calibration=archive), out))


def test_a_missing_archive_is_named(files, out):
    """A path without a file is said to be that."""
    assert "does not exist" in str(refused(invoke(files, out, calibration=out.parent / "none.npz"), out))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float64, np.bool_])
def test_any_numeric_type_is_cast(files, out, dtype):
    """Inputs of any real numeric type are cast to the model's, not refused."""
    archive = tiny_models.save(out.parent.parent / "data.npz", x=np.abs(X).astype(dtype))

    result = invoke(files, out, calibration=archive)

    assert result.exception is None or result.exit_code == 0, result.output
    assert (out / "variants.json").exists()


def quantized(files, context) -> bytes:
    return tflite_guard.quantize(
        load_source(files.tflite).data, tflite_guard.dynamic_recipe(weights="per_channel", dense="per_tensor")
    )


def test_a_quantized_model_is_refused(files, out, context):
    """Int8 weights are noticed: compressing them again would destroy the model."""
    model = out.parent.parent / "small.tflite"
    model.write_bytes(quantized(files, context))

    assert "already quantized" in str(refused(invoke(files, out, model=model), out))


def test_a_quantized_onnx_model_is_refused(files, out):
    """So are float16 weights in ONNX."""
    from edgepick_host.compress import onnx_guard

    model = out.parent.parent / "small.onnx"
    model.write_bytes(onnx_guard.to_float16(load_source(files.onnx).data))

    assert "already quantized" in str(refused(invoke(files, out, model=model, profile="generic-linux"), out))


MODELS = {
    "text.tflite": (b"hello, world: this is text", "not a .tflite model"),
    "empty.tflite": (b"", "not a .tflite model"),
    "text.onnx": (b"hello, world: this is text", "not an ONNX model"),
    "empty.onnx": (b"", "not an ONNX model"),
    "model.pt": (b"anything", "supported are .tflite and .onnx"),
    "noname": (b"anything", "(no suffix)"),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_no_model_is_named(files, out, name):
    """Text, empty files and other formats are refused, each with what was expected."""
    content, said = MODELS[name]
    model = out.parent.parent / name
    model.write_bytes(content)

    error = refused(invoke(files, out, model=model, profile="generic-linux"), out)

    assert str(model) in str(error)
    assert said in str(error)


def test_a_missing_model_is_named(files, out):
    """A path without a file is said to be that."""
    assert "cannot be read" in str(refused(invoke(files, out, model=out.parent / "none.tflite"), out))


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_a_truncated_model_is_named(files, out, suffix, share):
    """A model cut anywhere is refused as damaged, and the process lives."""
    whole = getattr(files, suffix).read_bytes()
    model = out.parent.parent / f"cut.{suffix}"
    model.write_bytes(whole[: int(len(whole) * share)])

    error = refused(invoke(files, out, model=model, profile="generic-linux"), out)

    assert "truncated" in str(error) or "not valid" in str(error)


def test_open_sizes_are_named(files, out):
    """A height left open in ONNX is refused with what to do; only the batch may be open."""
    model = out.parent.parent / "open.onnx"
    model.write_bytes(tiny_models.onnx_model(tiny_models.weights(), height="h"))

    error = refused(invoke(files, out, model=model, profile="generic-linux"), out)

    assert "only the batch may be open" in str(error)
    assert "fixed input size" in error.hint


def test_open_sizes_of_tflite_are_named(files, out):
    """The same for a ``.tflite`` file's shape signature."""
    parsed = tflite_file.read(files.tflite.read_bytes(), files.tflite)
    parsed.subgraphs[0].tensors[0].shapeSignature = [-1, -1, 8, 2]
    model = out.parent.parent / "open.tflite"
    model.write_bytes(tflite_file.write(parsed))

    assert "only the batch may be open" in str(refused(invoke(files, out, model=model), out))


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_a_fixed_larger_batch_is_named(files, out, suffix):
    """A batch fixed above 1 is refused: devices run one sample at a time."""
    model = out.parent.parent / f"batch.{suffix}"
    if suffix == "onnx":
        model.write_bytes(tiny_models.onnx_model(tiny_models.weights(), batch=4))
    else:
        parsed = tflite_file.read(files.tflite.read_bytes(), files.tflite)
        parsed.subgraphs[0].tensors[0].shape = [4, 8, 8, 2]
        model.write_bytes(tflite_file.write(parsed))

    assert "batch of 1" in str(refused(invoke(files, out, model=model, profile="generic-linux"), out))


def test_weights_outside_of_the_file_are_named(files, out):
    """ONNX with external data is refused: one file is what travels and what is digested."""
    parsed = onnx.load(files.onnx)
    model = out.parent.parent / "external.onnx"
    onnx.save_model(parsed, model, save_as_external_data=True, location="weights.bin", size_threshold=0)

    assert "outside of the file" in str(refused(invoke(files, out, model=model, profile="generic-linux"), out))


def test_a_model_that_no_runtime_knows_is_named(files, out):
    """A ``.tflite`` with an unknown custom operator is refused with the runtime's words."""
    parsed = tflite_file.read(files.tflite.read_bytes(), files.tflite)
    code = parsed.operatorCodes[-1]
    code.builtinCode = schema.BuiltinOperator.CUSTOM
    code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "NoSuchThing"
    model = out.parent.parent / "custom.tflite"
    model.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(parsed)))

    assert "does not run" in str(refused(invoke(files, out, model=model), out))


def test_two_different_networks_are_noticed(files, out):
    """The two formats must be one network: other weights are refused with how far they agree."""
    other = out.parent.parent / "other.onnx"
    other.write_bytes(tiny_models.onnx_model(tiny_models.weights(seed=1)))

    error = refused(invoke(files, out, model=[files.tflite, other], profile="generic-linux"), out)

    assert "not the same network" in str(error)


def test_two_models_of_one_format_are_refused(files, out):
    """One network, at most once per format."""
    error = refused(invoke(files, out, model=[files.tflite, files.tflite]), out)

    assert "a second .tflite model" in str(error)


def test_an_unknown_profile_is_a_profile_error(files, out):
    """The profile loader's own error reaches the user."""
    result = invoke(files, out, profile="raspberry-pi-99")

    assert isinstance(result.exception, ProfileError)
    assert "raspberry-pi-99" in str(result.exception)


def test_an_unknown_recipe_is_a_usage_error(files, out):
    """A recipe that does not exist is answered with those that do."""
    result = invoke(files, out, more=["--recipe", "int3"])

    assert result.exit_code == 2
    assert "static_wi8_ai8" in result.stderr


def test_a_name_that_cannot_travel_is_refused(files, out):
    """A model's name stands in topics and file names, so its alphabet is checked first."""
    assert "a-z 0-9" in str(refused(invoke(files, out, more=["--name", "../evil"]), out))


def test_a_missing_engine_names_the_pip_line(files, out, monkeypatch):
    """Without the compress extra, the command says which pip line mends it."""
    monkeypatch.setattr(compression, "COMPRESS", "no_such_engine_package:compress")

    error = refused(invoke(files, out), out)

    assert isinstance(error, MissingExtraError)
    assert error.hint == "pip install 'edgepick[compress]'"


def test_a_file_in_the_way_is_not_touched(files, tmp_path):
    """An ``--out`` that is a file is refused and stays as it was."""
    target = tmp_path / "out"
    target.write_text("precious")

    result = invoke(files, target, more=["--force"])

    assert isinstance(result.exception, InputFileError)
    assert target.read_text() == "precious"


def test_a_foreign_folder_is_not_touched(files, tmp_path):
    """A folder with anything else in it is refused and stays as it was."""
    target = tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("precious")

    result = invoke(files, target)

    assert isinstance(result.exception, InputFileError)
    assert "--force" in result.exception.hint
    assert [path.name for path in target.iterdir()] == ["notes.txt"]


def test_force_moves_a_foreign_folder_aside(files, tmp_path):
    """With ``--force`` the foreign folder is kept under another name, not deleted."""
    target = tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("precious")

    assert invoke(files, target, more=["--force"]).exit_code == 0

    assert (target / "variants.json").exists()
    assert (tmp_path / "out.before-1/notes.txt").read_text() == "precious"


def test_an_earlier_result_is_replaced(files, tmp_path):
    """A second run replaces the first result without asking, and leaves nothing else behind."""
    target = tmp_path / "out"

    codes = [invoke(files, target).exit_code for _ in range(2)]

    assert codes == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_result_with_something_added_is_not_ours_alone(files, tmp_path):
    """Something that a person put into a result keeps it from being replaced."""
    target = tmp_path / "out"
    invoke(files, target)
    (target / "notes.txt").write_text("precious")

    result = invoke(files, target)

    assert isinstance(result.exception, InputFileError)
    assert (target / "notes.txt").read_text() == "precious"


def test_a_failure_in_the_middle_leaves_the_earlier_result(files, tmp_path, monkeypatch):
    """When something breaks while candidates are tried, the earlier result is whole and no scratch folder stays."""
    target = tmp_path / "out"
    invoke(files, target)
    before = (target / "variants.json").read_bytes()
    monkeypatch.setattr(pipeline, "median_latency_ns", {}.__getitem__)

    result = invoke(files, target)

    assert isinstance(result.exception, TypeError)
    assert (target / "variants.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_real_program_ends_with_one_clear_message(files, out):
    """As a process of its own, bad input ends with code 2, one message with its hint, and no stack trace."""
    archive = tiny_models.save(out.parent.parent / "data.npz", x=X[:, :4])

    data = ["--calibration", archive, "--evaluation", files.evaluation, "--out", out]
    done = subprocess.run(
        [sys.executable, "-m", "edgepick_host", "compress", files.tflite, "--profile", "raspberry-pi-3", *data],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.returncode == 2
    assert "x has samples of shape [4, 8, 2]" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not out.exists()
