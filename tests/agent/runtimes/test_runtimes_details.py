"""What each runtime does beyond the common contract: quantized tensors, delegates, arenas, providers."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.adapters import native_stderr, tflite_session
from edgepick_agent.adapters.runtimes.litert import LiteRt
from edgepick_agent.adapters.runtimes.onnxruntime import OnnxRuntime
from edgepick_agent.adapters.runtimes.tflite_runtime import TfliteRuntime
from edgepick_agent.adapters.runtimes.tflm import Tflm, smallest_arena
from edgepick_agent.adapters.tflite_session import Engine, count_nodes
from edgepick_agent.errors import AcceleratorError, InferenceError, InputError, ModelLoadError, RuntimeMissingError
from edgepick_wire.manifest import RuntimeChoice, RuntimeName
from fakes.runtime_models import DIGITS, SCALE, ZERO_POINT, onnx_add, onnx_relu, tflite

CPU = RuntimeChoice(name=RuntimeName.LITERT)


def choose(*accelerators: str) -> RuntimeChoice:
    return RuntimeChoice(name=RuntimeName.LITERT, accelerators=accelerators)


@pytest.mark.parametrize("runtime", [LiteRt(), Tflm()], ids=["litert", "tflm"])
def test_quantization_is_told_and_raw_integers_go_in_and_out(runtime, tmp_path):
    """An int8 tensor carries its scale and zero point, and the session neither scales nor shifts."""
    file = tmp_path / "int8.tflite"
    file.write_bytes(tflite(quantized=True))
    session = runtime.load(file, CPU)

    outputs = session.run({"a": np.array([[-128, ZERO_POINT, 0, 127]], np.int8)})

    assert (session.inputs[0].dtype, session.inputs[0].scale, session.inputs[0].zero_point) == (
        "int8",
        SCALE,
        ZERO_POINT,
    )
    np.testing.assert_array_equal(outputs[0], [[ZERO_POINT, ZERO_POINT, 0, 127]])


def test_an_open_batch_takes_any_size(tmp_path):
    """A size that the model leaves open is told as -1, and batches of changing size run."""
    file = tmp_path / "open.tflite"
    file.write_bytes(tflite(open_batch=True))
    session = LiteRt().load(file, CPU)

    outputs = [session.run({"a": np.full((n, 4), -n + 2, np.float32)})[0] for n in (1, 3, 2)]

    assert session.inputs[0].shape == (-1, 4)
    assert [o.shape for o in outputs] == [(1, 4), (3, 4), (2, 4)]
    assert [float(o.max()) for o in outputs] == [1, 0, 0]
    with pytest.raises(InputError):
        session.run({"a": np.zeros((0, 4), np.float32)})


def test_litert_tells_what_xnnpack_took():
    """On the demo model every operator goes to XNNPACK, and the report says so."""
    used = LiteRt().load(DIGITS, CPU).used

    assert used.accelerator == "xnnpack"
    assert used.nodes is not None
    assert used.nodes > 10
    assert used.accelerated_nodes == used.nodes


def test_insisting_on_xnnpack_fails_where_it_takes_nothing(tmp_path):
    """A graph of which XNNPACK takes no node runs on "cpu", but not on "xnnpack"."""
    interpreter = FakeInterpreter(operators=[op(0, "CUSTOM", [0], [1])], outputs=[1])
    engine = Engine(name="fake", version="1", interpreter=lambda **_: interpreter, load_delegate=lambda _: object())
    file = tmp_path / "model.tflite"
    file.write_bytes(tflite())

    with pytest.raises(AcceleratorError, match="took none of the 1 nodes"):
        tflite_session.load(engine, file, choose("xnnpack"))

    assert tflite_session.load(engine, file, choose("cpu")).used.accelerator == "cpu"


@dataclass
class FakeInterpreter:
    """As much of an interpreter as counting nodes needs."""

    operators: list
    outputs: list

    def _get_ops_details(self):
        return self.operators

    def get_output_details(self):
        return [
            {"index": i, "name": "b", "shape": [1], "dtype": np.float32, "quantization": (0.0, 0)} for i in self.outputs
        ]

    def get_input_details(self):
        return [{"index": 0, "name": "a", "shape": [1], "dtype": np.float32, "quantization": (0.0, 0)}]

    def allocate_tensors(self):
        pass


def op(index: int, name: str, inputs: list, outputs: list) -> dict:
    return {"index": index, "op_name": name, "inputs": inputs, "outputs": outputs}


def test_operators_that_a_delegate_replaced_are_counted_as_taken():
    """Of a chain of four with the middle two in a delegate, two are taken and two still run."""
    chain = [op(i, f"OP{i}", [i], [i + 1]) for i in range(4)]
    delegate = op(4, "DELEGATE", [1], [3])

    counted = count_nodes(FakeInterpreter(operators=[*chain, delegate], outputs=[4]))

    assert (counted.total, counted.taken) == (4, 2)


@given(st.integers(1, 30), st.data())
def test_any_split_of_a_chain_is_counted_right(length, data):
    """Whatever consecutive parts of a chain delegates take, exactly those operators count as taken."""
    taken = data.draw(st.sets(st.integers(0, length - 1)))
    chain = [op(i, f"OP{i}", [i], [i + 1]) for i in range(length)]
    starts = [i for i in taken if i - 1 not in taken]
    ends = {s: next(e for e in range(s, length + 1) if e not in taken) for s in starts}
    delegates = [op(length + n, "DELEGATE", [s], [ends[s]]) for n, s in enumerate(sorted(starts))]

    counted = count_nodes(FakeInterpreter(operators=[*chain, *delegates], outputs=[length]))

    assert (counted.total, counted.taken) == (length, len(taken))


def test_an_interpreter_that_does_not_tell_its_nodes_is_no_error():
    """Without the list of operators the count is unknown, not zero."""
    assert count_nodes(object()) is None


def test_a_delegate_that_refuses_the_model_is_an_accelerator_that_does_not_work(monkeypatch, tmp_path):
    """A delegate library that loads but whose interpreter fails leads to the CPU, with the reason."""
    monkeypatch.setattr(tflite_session, "_cannot_load", lambda _library: None)
    real = LiteRt().load(DIGITS, CPU)._interpreter

    def interpreter(*, experimental_delegates, **_options):
        if experimental_delegates:
            raise ValueError("Failed to apply delegate: no TPU found")
        return real

    engine = Engine(name="fake", version="1", interpreter=interpreter, load_delegate=lambda _: object())

    used = tflite_session.load(engine, DIGITS, choose("edgetpu", "cpu")).used

    assert used.accelerator == "xnnpack"
    assert "no TPU found" in (used.fallback_reason or "")


def test_tflm_names_the_operator_that_it_lacks(tmp_path):
    """An operator that TFLM does not have is a ModelLoadError with what TFLM printed about it."""
    file = tmp_path / "gelu.tflite"
    file.write_bytes(tflite("gelu"))

    with pytest.raises(ModelLoadError, match="GELU"):
        Tflm().load(file, CPU)


def test_the_arena_of_tflm_is_the_smallest_that_works():
    """The demo model loads in its reported arena and not in one that is 16 bytes smaller."""
    session = Tflm().load(DIGITS, CPU)

    arena = session.arena_bytes

    assert arena is not None
    assert session._loads_in(arena)
    assert not session._loads_in(arena - 16)


@given(st.integers(1, 10_000), st.integers(0, 3_000))
def test_the_arena_search_finds_the_least_multiple_of_sixteen(recorded, more):
    """Whatever planning needs beyond what is recorded, the search ends at the least size that loads."""
    needed = (recorded // 16) * 16 + more

    found = smallest_arena(lambda arena: arena >= needed, recorded)

    assert found == max(-(-needed // 16), recorded // 16) * 16


def test_onnx_takes_several_inputs_of_open_size(tmp_path):
    """Inputs are fed by name whatever the order, and a size that is open in the model is open here."""
    file = tmp_path / "add.onnx"
    file.write_bytes(onnx_add())
    session = OnnxRuntime().load(file, CPU)

    outputs = session.run({"q": np.arange(5), "p": np.full(5, 10)})

    assert [t.shape for t in session.inputs] == [(-1,), (-1,)]
    np.testing.assert_array_equal(outputs[0], np.arange(5) + 10)


def test_a_file_compiled_for_an_edge_tpu_is_known_as_that(tmp_path):
    """On a CPU it does not load, and the hint says what it is instead of guessing at damage."""
    file = tmp_path / "model_edgetpu.tflite"
    parsed = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite(quantized=True)))
    code = parsed.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = "edgetpu-custom-op"
    file.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(parsed)))

    with pytest.raises(ModelLoadError) as caught:
        LiteRt().load(file, CPU)

    assert "edgetpu-custom-op" in str(caught.value)
    assert "compiled for an Edge TPU" in caught.value.hint


def test_an_error_inside_the_runtime_is_an_inference_error(tmp_path):
    """Two open sizes that do not fit together are found by the runtime, and translated."""
    file = tmp_path / "add.onnx"
    file.write_bytes(onnx_add())
    session = OnnxRuntime().load(file, CPU)

    with pytest.raises(InferenceError, match="onnxruntime"):
        session.run({"p": np.arange(5), "q": np.arange(4)})


def test_the_number_of_threads_is_passed_on(tmp_path):
    """A choice of two threads is what the session was made with, and what it reports."""
    file = tmp_path / "relu.onnx"
    file.write_bytes(onnx_relu())

    session = OnnxRuntime().load(file, RuntimeChoice(name=RuntimeName.ONNXRUNTIME, threads=2))

    assert session.used.threads == 2
    assert session._session.get_session_options().intra_op_num_threads == 2


def test_onnxruntime_counts_the_nodes_of_its_graph(tmp_path):
    """A graph of one operator has one node, and the CPU took it."""
    file = tmp_path / "relu.onnx"
    file.write_bytes(onnx_relu())

    used = OnnxRuntime().load(file, CPU).used

    assert (used.accelerator, used.nodes, used.accelerated_nodes) == ("cpu", 1, 1)


def test_a_provider_that_does_not_start_is_not_believed(tmp_path, monkeypatch):
    """ONNX Runtime goes on silently without a provider that failed; the session then is not taken for it."""
    import onnxruntime

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    file = tmp_path / "relu.onnx"
    file.write_bytes(onnx_relu())

    used = OnnxRuntime().load(file, choose("cuda", "cpu")).used

    assert used.accelerator == "cpu"
    assert "CUDAExecutionProvider did not start" in (used.fallback_reason or "")
    with pytest.raises(AcceleratorError, match="CUDAExecutionProvider"):
        OnnxRuntime().load(file, choose("cuda"))


@pytest.mark.parametrize(
    ("runtime", "package", "extra"),
    [
        (LiteRt(), "ai_edge_litert", "litert"),
        (TfliteRuntime(), "tflite_runtime", "tflite"),
        (Tflm(), "tflite_micro", "tflm"),
        (OnnxRuntime(), "onnxruntime", "onnx"),
    ],
)
def test_a_missing_runtime_names_the_pip_line(runtime, package, extra, monkeypatch):
    """Where the package is not installed the runtime is not available, and loading says how to get it."""
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(RuntimeMissingError) as caught:
        runtime.load(Path("any.tflite"), CPU)

    assert runtime.available() is None
    assert f"pip install 'edgepick[{extra}]'" in caught.value.hint


def test_captured_text_is_what_went_to_the_descriptor():
    """What native code writes to descriptor 2 is collected, without the informational lines."""
    import os

    with native_stderr.captured() as said:
        os.write(2, b"INFO: Created delegate.\nERROR: Didn't find op\n\n")

    assert said.text.startswith("INFO")
    assert said.errors == "ERROR: Didn't find op"
