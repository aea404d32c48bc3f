"""Where the time goes in a .tflite model: each operator alone, as a model of its own.

The interpreter's profiler is not reachable from Python. So each operator is cut out with its weights,
fed the values that it sees in the whole model, and timed in the same interpreter on the same
accelerator. What that leaves out is said with the figures: an operator alone finds its weights in the
cache and is not fused with its neighbours, so the sum differs from the whole.
"""

import copy
import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepick_agent.adapters import native_stderr
from edgepick_agent.adapters.runtimes import litert
from edgepick_agent.adapters.tflite_session import BUILT_IN, NATIVE_ERRORS, TfliteSession, load
from edgepick_agent.core.profile import OperatorTable, OperatorTime
from edgepick_agent.core.summarise import middle_mean
from edgepick_agent.errors import RunError
from edgepick_wire.manifest import RuntimeChoice

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

METHOD = "each operator alone"
RUNS, LEAST_RUNS, WARMUP_RUNS = 50, 3, 3
MOST_SECONDS = 0.5
"""For one operator."""
NOTE = "an operator alone is not fused with its neighbours and finds its weights in the cache: the sum is not the whole"

Values = Mapping[int, "Array"]


def profile(model: Path, choice: RuntimeChoice, feeds: Sequence[Mapping[str, "Array"]]) -> OperatorTable:
    """Return the time of each operator of the main graph alone; ``None`` for one that cannot be cut out."""
    try:
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        return OperatorTable(method=METHOD, reason=f"the reader of model files is missing: {error}")
    parsed = schema.ModelT.InitFromPackedBuf(bytearray(model.read_bytes()), 0)
    values = _values(model, feeds[0])
    first = choice.accelerators[0]
    choice = dataclasses.replace(choice, accelerators=("cpu",) if first in BUILT_IN else (first, "cpu"))
    with tempfile.TemporaryDirectory(prefix="edgepick-") as folder:
        cutter = _Cutter(schema, flatbuffers, parsed, Path(folder) / "operator.tflite")
        found = tuple(_timed(cutter, index, values, choice) for index in range(len(parsed.subgraphs[0].operators)))
    return OperatorTable(method=METHOD, runs=RUNS, operators=found, reason=NOTE)


def _values(model: Path, feed: Mapping[str, "Array"]) -> Values:
    """Return every tensor of one inference by index, computed without delegates; empty if that is not possible."""
    from ai_edge_litert import interpreter as package

    try:
        with native_stderr.captured():
            interpreter = package.Interpreter(
                model_path=str(model),
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=package.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
            interpreter.allocate_tensors()
            for detail in interpreter.get_input_details():
                interpreter.set_tensor(detail["index"], feed[detail["name"]])
            interpreter.invoke()
    except (*NATIVE_ERRORS, KeyError):
        return {}
    values = {int(d["index"]): _value(interpreter, d["index"]) for d in interpreter.get_tensor_details()}
    return {tensor: value for tensor, value in values.items() if value is not None}


def _value(interpreter: Any, tensor: int) -> "Array | None":
    try:
        value: Array = interpreter.get_tensor(tensor)
    except NATIVE_ERRORS:
        return None
    return value


class _Cutter:
    """Cuts single operators out of a parsed model."""

    def __init__(self, schema: Any, flatbuffers: Any, model: Any, path: Path) -> None:
        self._schema, self._flatbuffers, self._model, self._path = schema, flatbuffers, model, path
        self.graph = model.subgraphs[0]
        self._names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}

    def kind(self, index: int) -> str:
        """Return the operator's kind: "CONV_2D", or the name of a custom one."""
        code = self._model.operatorCodes[self.graph.operators[index].opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = (code.customCode or b"").decode("utf-8", "replace")
        return custom or str(self._names.get(builtin, builtin))

    def name(self, index: int) -> str:
        """Return the name of the operator's first output."""
        outputs = self.graph.operators[index].outputs
        name = self.graph.tensors[outputs[0]].name if len(outputs) else b""
        return (name or b"").decode("utf-8", "replace")[:200]

    def cut(self, index: int) -> tuple[Path, list[int]]:
        """Write the operator as a model; return its path and which tensors of the whole are its inputs."""
        operator = copy.copy(self.graph.operators[index])
        used = [int(t) for t in dict.fromkeys((*operator.inputs, *operator.outputs)) if t >= 0]
        at = {tensor: position for position, tensor in enumerate(used)}
        outputs = [int(t) for t in operator.outputs]
        inputs = [t for t in used if t not in outputs and not self._constant(t)]
        graph = self._schema.SubGraphT()
        graph.tensors = [self._tensor(t, position) for t, position in at.items()]
        graph.inputs, graph.outputs = [at[t] for t in inputs], [at[t] for t in outputs]
        code = self._model.operatorCodes[operator.opcodeIndex]
        operator.opcodeIndex = 0
        operator.inputs = [at.get(int(t), -1) for t in operator.inputs]
        operator.outputs = [at[t] for t in outputs]
        graph.operators = [operator]
        self._write(graph, code, [self._buffer(t) for t in used])
        return self._path, inputs

    def _constant(self, tensor: int) -> bool:
        data = self._buffer(tensor).data
        return data is not None and len(data) > 0

    def _buffer(self, tensor: int) -> Any:
        return self._model.buffers[self.graph.tensors[tensor].buffer]

    def _tensor(self, tensor: int, position: int) -> Any:
        made = copy.copy(self.graph.tensors[tensor])
        made.buffer = position + 1
        return made

    def _write(self, graph: Any, code: Any, buffers: list[Any]) -> None:
        model = self._schema.ModelT()
        model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
        model.buffers = [self._schema.BufferT(), *buffers]
        builder = self._flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        self._path.write_bytes(bytes(builder.Output()))


def _timed(cutter: _Cutter, index: int, values: Values, choice: RuntimeChoice) -> OperatorTime:
    name, kind = cutter.name(index), cutter.kind(index)
    try:
        path, inputs = cutter.cut(index)
        session = load(litert.engine(), path, choice)
        for tensor, spec in zip(inputs, session.inputs, strict=True):
            session.set(spec.name, values[tensor])
        mean_ns = _mean_ns(session)
    # Control flow refers to other graphs; some values are not computed without the accelerator.
    except (RunError, KeyError, *NATIVE_ERRORS):
        return OperatorTime(name=name, kind=kind, provider="")
    return OperatorTime(name=name, kind=kind, provider=session.used.accelerator, mean_ns=mean_ns)


def _mean_ns(session: TfliteSession) -> int:
    for _ in range(WARMUP_RUNS):
        session.invoke()
    times: list[int] = []
    while len(times) < RUNS and (len(times) < LEAST_RUNS or sum(times) < MOST_SECONDS * 1e9):
        began = time.perf_counter_ns()
        session.invoke()
        times.append(time.perf_counter_ns() - began)
    return round(middle_mean(times))
