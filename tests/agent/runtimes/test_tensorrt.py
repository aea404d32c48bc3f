"""TensorRT behind ONNX Runtime: options by what a model holds, engines kept per model, and what is tried again.

No TensorRT is here: ONNX Runtime's session is replaced where the provider would be asked.
"""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepick_agent.adapters.runtimes.onnxruntime import OnnxRuntime
from edgepick_agent.adapters.tensorrt import ENGINE_CACHE, KEPT_MODELS, PROVIDER, model_content, tensorrt_options
from edgepick_agent.core.onnx_content import OnnxContent, read_content
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.errors import AcceleratorError
from edgepick_agent.runner import operators
from edgepick_agent.runner.session import Opened
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName
from fakes.runtime_models import onnx_relu

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
JETSON = RuntimeChoice(name=RuntimeName.ONNXRUNTIME, accelerators=("tensorrt", "cuda", "cpu"))


def model(*operators: str, weights: np.ndarray | None = None) -> bytes:
    """Return an ONNX file with a chain of operators and, maybe, weights that nobody reads."""
    nodes = [helper.make_node(name, [f"t{i}"], [f"t{i + 1}"]) for i, name in enumerate(operators)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("t0", f"t{len(operators)}")]
    stored = [] if weights is None else [numpy_helper.from_array(weights, "QuantizeLinear")]
    return helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)).SerializeToString()


FLOAT32 = model("Relu", weights=np.zeros(4, np.float32))
FLOAT16 = model("Cast", weights=np.zeros(4, np.float16))
QDQ = model("QuantizeLinear", "DequantizeLinear", weights=np.zeros(4, np.int8))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Provide the folder that the agent gives its runners."""
    folder = tmp_path / "engine-cache"
    monkeypatch.setenv(ENGINE_CACHE, str(folder))
    return folder


def options(folder: Path, content: bytes, version: str = "1.18.0") -> dict[str, str]:
    path = folder / "model.onnx"
    path.write_bytes(content)
    return tensorrt_options(path, version)


@pytest.mark.parametrize(
    ("content", "int8", "half"), [(FLOAT32, False, False), (FLOAT16, False, True), (QDQ, True, True)]
)
def test_a_model_is_computed_in_what_it_holds(tmp_path, monkeypatch, content, int8, half):
    """Int8 is for models with Q/DQ pairs, half precision for those and for half weights; float32 stays float32."""
    monkeypatch.delenv(ENGINE_CACHE, raising=False)

    found = options(tmp_path, content)

    assert found == ({"trt_int8_enable": "True"} if int8 else {}) | ({"trt_fp16_enable": "True"} if half else {})
    assert not any("calibration" in name for name in found)


def test_engines_and_timings_are_kept_in_the_agents_folder(tmp_path, cache):
    """Both caches are on, in folders that exist under the one the agent names."""
    found = options(tmp_path, FLOAT32)

    assert found["trt_engine_cache_enable"] == found["trt_timing_cache_enable"] == "True"
    for key in ("trt_engine_cache_path", "trt_timing_cache_path"):
        assert Path(found[key]).is_dir()
        assert Path(found[key]).is_relative_to(cache)


def test_new_weights_never_get_old_engines(tmp_path, cache):
    """Two versions of one network, with one file name, have engines apart; the timings of layers are shared."""
    old = options(tmp_path, model("Relu", weights=np.zeros(4, np.float32)))
    new = options(tmp_path, model("Relu", weights=np.ones(4, np.float32)))

    assert old["trt_engine_cache_path"] != new["trt_engine_cache_path"]
    assert old["trt_timing_cache_path"] == new["trt_timing_cache_path"]
    assert options(tmp_path, model("Relu", weights=np.ones(4, np.float32))) == new
    assert options(tmp_path, FLOAT32, "1.22.0") != options(tmp_path, FLOAT32)


def test_engines_of_forgotten_models_go(tmp_path, cache):
    """The folder does not grow for ever: the models used last keep their engines, also one that is used again."""
    names = []
    for number in range(KEPT_MODELS + 2):
        found = options(tmp_path, model("Relu", weights=np.full(4, number, np.float32)))
        names.append(Path(found["trt_engine_cache_path"]))
        os.utime(names[-1], (1_000_000 + number, 1_000_000 + number))
        if number == KEPT_MODELS - 1:
            os.utime(names[0], (2_000_000, 2_000_000))

    assert names[0].is_dir()
    assert [path.is_dir() for path in names[-2:]] == [True, True]
    assert len(list((cache / "engines").iterdir())) == KEPT_MODELS


class Session:
    """A session of ONNX Runtime as far as it is looked at."""

    def __init__(self, providers):
        self._providers = [name for name, _ in providers]

    def get_providers(self):
        return self._providers

    def get_inputs(self):
        return []

    get_outputs = get_inputs


@pytest.fixture
def asked(monkeypatch):
    """Replace ONNX Runtime's session; return what it was asked for, and by what it refuses."""
    import onnxruntime

    calls, refusals = [], []

    def session(_path, _options, providers):
        calls.append([(name, dict(given)) for name, given in providers])
        if refusals:
            raise RuntimeError(refusals.pop(0))
        return Session(providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [PROVIDER, CUDA, CPU])
    return calls, refusals


def file(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(onnx_relu())
    return path


def test_what_tensorrt_leaves_goes_to_the_gpu_first(tmp_path, cache, asked):
    """The providers are TensorRT with its options, CUDA, and the CPU, in this order."""
    calls, _ = asked

    used = OnnxRuntime().load(file(tmp_path), JETSON).used

    ((tensorrt, cuda, cpu),) = calls
    assert (tensorrt[0], cuda, cpu) == (PROVIDER, (CUDA, {}), (CPU, {}))
    assert tensorrt[1]["trt_engine_cache_path"].startswith(str(cache))
    assert used.accelerator == PROVIDER


def test_operators_are_told_of_the_session_that_is_measured(tmp_path, cache, asked):
    """The session that profiles has the same providers and options: what TensorRT leaves is on the GPU there too."""
    calls, _ = asked
    opened = Opened(session=OnnxRuntime().load(file(tmp_path), JETSON), import_ns=0, load_ns=0)
    spec = RunnerSpec(model="m", model_path=str(file(tmp_path)), format=ModelFormat.ONNX, runtimes=(JETSON,))

    operators.table(spec, opened, [])

    measured, profiled = calls
    assert profiled == measured


def test_an_option_that_is_not_known_is_left_out(tmp_path, cache, asked):
    """An older ONNX Runtime without a timing cache still gets its engines."""
    calls, refusals = asked
    refusals += [f'Unknown provider option: "trt_timing_cache_{word}".' for word in ("enable", "path")]

    used = OnnxRuntime().load(file(tmp_path), JETSON).used

    assert used.accelerator == PROVIDER
    assert len(calls) == 3
    assert "trt_engine_cache_path" in calls[-1][0][1]
    assert not any("timing" in name for name in calls[-1][0][1])


def test_an_engine_that_does_not_load_is_built_again(tmp_path, cache, asked):
    """After a power cut in the middle of writing an engine, it is dropped once, and TensorRT is asked again."""
    calls, refusals = asked
    OnnxRuntime().load(file(tmp_path), JETSON)
    damaged = Path(calls[0][0][1]["trt_engine_cache_path"]) / "graph_sm87.engine"
    damaged.write_bytes(b"half an engine")
    refusals.append("Failed to deserialize engine")

    used = OnnxRuntime().load(file(tmp_path), JETSON).used

    assert used.accelerator == PROVIDER
    assert not damaged.exists()


def test_a_model_that_tensorrt_refuses_falls_back_with_the_reason(tmp_path, cache, asked):
    """Without an engine to drop, it is asked once; the next accelerator runs the model and says why."""
    calls, refusals = asked
    refusals.append("This is an invalid model")

    used = OnnxRuntime().load(file(tmp_path), JETSON).used

    assert used.accelerator == CUDA
    assert "This is an invalid model" in (used.fallback_reason or "")
    assert len(calls) == 2


def test_a_refusal_that_does_not_end_ends(tmp_path, cache, asked):
    """A provider that refuses whatever is left out is an accelerator that does not work, not an endless loop."""
    calls, refusals = asked
    refusals += ['Unknown provider option: "trt_timing_cache_path".'] * 50

    with pytest.raises(AcceleratorError, match="trt_timing_cache_path"):
        OnnxRuntime().load(file(tmp_path), RuntimeChoice(name=RuntimeName.ONNXRUNTIME, accelerators=("tensorrt",)))
    assert len(calls) == 2


NAMES = ("Conv", "Relu", "QuantizeLinear", "Softmax")
TYPES = (np.float32, np.float16, np.int8, np.int64)


@given(st.lists(st.sampled_from(NAMES), max_size=6), st.none() | st.sampled_from(TYPES))
def test_the_reader_agrees_with_the_onnx_package(operators, dtype):
    """Operators and types of weights are those that the onnx package sees."""
    content = model(*operators, weights=None if dtype is None else np.zeros(300, dtype))

    found = read_content(content)

    graph = onnx.load_from_string(content).graph
    assert found.operators == {node.op_type for node in graph.node}
    assert found.weight_types == {tensor.data_type for tensor in graph.initializer}


@given(st.binary(max_size=200) | st.integers(0, len(QDQ)).map(lambda end: QDQ[:end]))
def test_no_file_is_too_damaged_to_be_looked_at(content):
    """Any bytes, and any beginning of a model, are read without an error."""
    assert isinstance(read_content(content), OnnxContent)


def test_an_empty_file_holds_nothing(tmp_path):
    """A file of no bytes cannot be mapped, and holds neither pairs nor halves."""
    (tmp_path / "empty.onnx").write_bytes(b"")

    found = model_content(tmp_path / "empty.onnx")

    assert not found.quantized
    assert not found.half
