"""What every runtime promises: the real ones on real files, and the fake that tests use."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgepick_agent.adapters.runtimes.litert import LiteRt
from edgepick_agent.adapters.runtimes.onnxruntime import OnnxRuntime
from edgepick_agent.adapters.runtimes.tflite_runtime import TfliteRuntime
from edgepick_agent.adapters.runtimes.tflm import Tflm
from edgepick_agent.errors import AcceleratorError, InputError, ModelLoadError
from edgepick_agent.ports import Runtime
from edgepick_wire.manifest import RuntimeChoice, RuntimeName
from fakes.runtime import MAGIC, FakeRuntime
from fakes.runtime_models import onnx_relu, tflite

X = np.array([[-1.0, 0.0, 2.5, -3.0]], np.float32)
NUMPY_1 = int(np.__version__.split(".", 1)[0]) < 2


@dataclass(frozen=True)
class Case:
    """A runtime, the name that it must give itself, and a model file for it: relu from a to b."""

    runtime: Runtime
    name: str
    file: Path

    def load(self, *accelerators: str, threads: int = 1):
        names = accelerators or ("cpu",)
        return self.runtime.load(self.file, RuntimeChoice(name=RuntimeName.LITERT, accelerators=names, threads=threads))


MAKERS = {
    "litert": (LiteRt, ".tflite", tflite),
    "tflite_runtime": (TfliteRuntime, ".tflite", tflite),
    "tflm": (Tflm, ".tflite", tflite),
    "onnxruntime": (OnnxRuntime, ".onnx", onnx_relu),
    "fake": (FakeRuntime, ".fake", lambda: MAGIC),
}


@pytest.fixture(params=sorted(MAKERS))
def case(request, tmp_path: Path):
    make, suffix, content = MAKERS[request.param]
    if request.param == "tflite_runtime" and not (importlib.util.find_spec("tflite_runtime") and NUMPY_1):
        pytest.skip("tflite_runtime is not importable here: it needs numpy 1 and an environment of its own")
    file = tmp_path / f"model{suffix}"
    file.write_bytes(content())
    return Case(make(), request.param, file)


def test_an_installed_runtime_says_who_it_is(case):
    """It gives its name, a version, and the CPU among its accelerators."""
    available = case.runtime.available()

    assert available is not None
    assert available.name == case.name
    assert available.version
    assert "cpu" in available.accelerators


def test_a_loaded_model_tells_its_tensors(case):
    """Inputs and outputs are named, shaped and typed as in the model file."""
    session = case.load()

    assert [(t.name, t.shape, t.dtype) for t in session.inputs] == [("a", (1, 4), "float32")]
    assert [(t.name, t.shape, t.dtype) for t in session.outputs] == [("b", (1, 4), "float32")]


def test_a_session_says_what_executes_it(case):
    """The runtime's name and version are those it announces, and without a detour there is no excuse."""
    available = case.runtime.available()

    used = case.load().used

    assert (used.name, used.version) == (available.name, available.version)
    assert used.fallback_reason is None


def test_outputs_are_those_of_the_graph(case):
    """One output of the declared type and shape, equal to what numpy computes."""
    outputs = case.load().run({"a": X})

    assert len(outputs) == 1
    assert outputs[0].dtype == np.float32
    np.testing.assert_array_equal(outputs[0], np.maximum(X, 0))


def test_an_output_is_not_changed_by_the_next_inference(case):
    """What one run returned stays what it was."""
    session = case.load()
    first = session.run({"a": X})[0]

    session.run({"a": X + 7})

    np.testing.assert_array_equal(first, np.maximum(X, 0))


@pytest.mark.parametrize(
    ("feeds", "named"),
    [
        ({"z": X}, "z"),
        ({}, "a"),
        ({"a": X, "z": X}, "z"),
        ({"a": X.astype(np.float64)}, "float64"),
        ({"a": X[:, :3]}, "[1, 3]"),
        ({"a": X[0]}, "[4]"),
    ],
)
def test_input_that_does_not_fit_is_refused_by_name(case, feeds, named):
    """A wrong name, type or shape is an InputError that says what was found, after a request that fits as well."""
    session = case.load()
    session.run({"a": X})

    with pytest.raises(InputError) as caught:
        session.run(feeds)

    assert named in str(caught.value)
    np.testing.assert_array_equal(session.run({"a": X})[0], np.maximum(X, 0))


@pytest.mark.parametrize("content", [b"", b"junk", b"\x00" * 4096, b"not a model at all" * 40])
def test_a_file_that_is_no_model_is_refused_by_name(case, content):
    """Empty, short or foreign content is a ModelLoadError that names the file."""
    case.file.write_bytes(content)

    with pytest.raises(ModelLoadError) as caught:
        case.load()

    assert case.file.name in str(caught.value)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_model_is_refused_by_name(case, share):
    """Part of a model is a ModelLoadError that names the file."""
    whole = case.file.read_bytes()
    case.file.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(ModelLoadError) as caught:
        case.load()

    assert case.file.name in str(caught.value)


def test_a_missing_file_is_refused_by_name(case):
    """No file is a ModelLoadError that names it."""
    case.file.unlink()

    with pytest.raises(ModelLoadError, match=case.file.name):
        case.load()


def test_an_accelerator_that_is_not_there_is_an_error(case):
    """Without the CPU in the choice nothing falls back to it, and the error names what was asked for."""
    with pytest.raises(AcceleratorError, match="edgetpu"):
        case.load("edgetpu")


def test_falling_back_to_the_cpu_is_told(case):
    """With the CPU in the choice it runs there, and says why the preferred accelerator does not."""
    session = case.load("edgetpu", "cpu")

    assert "edgetpu" in (session.used.fallback_reason or "")
    np.testing.assert_array_equal(session.run({"a": X})[0], np.maximum(X, 0))


def test_sessions_do_not_disturb_each_other(case):
    """Two sessions of one file are independent; closing one leaves the other."""
    one, other = case.load(), case.load()
    one.run({"a": X})
    one.close()

    outputs = other.run({"a": -X})

    np.testing.assert_array_equal(outputs[0], np.maximum(-X, 0))


def test_loading_writes_nothing_to_the_terminal(case, capfd):
    """Native libraries' chatter stays away from a person's terminal, success or failure."""
    case.load().run({"a": X})
    case.file.write_bytes(case.file.read_bytes()[:9] + b"junk")
    with pytest.raises(ModelLoadError):
        case.load()

    assert capfd.readouterr().err == ""


def test_the_arena_is_exact_or_not_told(case):
    """Only the runtime for microcontrollers knows its arena; the others say nothing, never a guess."""
    arena = case.load().arena_bytes

    assert (arena is not None and arena % 16 == 0) if case.name == "tflm" else arena is None
