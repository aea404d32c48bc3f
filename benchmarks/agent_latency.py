"""Latency beside the bare runtime: the runner's own loop, its Unix socket, and what the runtimes' own tools say.

Bare means the runtime's Python API with nothing around it: ``set_tensor``, ``invoke``, ``get_tensor`` of LiteRT,
``run`` of ONNX Runtime. Blocks of both take turns in one process, each opening its own copy of the model; a pair of
blocks gives a difference, and the median over all pairs of several processes is reported, because memory laid
out well or badly moves a whole process by more than what is looked for.
"""

import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgepick_agent import app
from edgepick_agent.adapters.clock import SystemClock
from edgepick_agent.client import Client
from edgepick_agent.core.profile_request import ProfileRequest
from edgepick_agent.core.runner_spec import RunnerMode, RunnerSpec, RunnerState
from edgepick_agent.ports import RunnerProcess
from edgepick_agent.runner.session import open_model
from edgepick_agent.runner.timing import timed_runs, warm_up
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice, RuntimeName
from edgepick_wire.metrics import MeasurePlan

READY_SECONDS = 60.0
LITERT_TOOL = Path(sys.executable).with_name("litert-benchmark")
Times = list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes:
        processes: Fresh processes per comparison.
        pairs: Pairs of blocks in each.
        block_seconds: Length of a block.
    """

    processes: int
    pairs: int
    block_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Median latencies in seconds, ours and bare, and the median over pairs of their ratio and difference."""

    ours: float
    bare: float
    ratio: float
    added: float


def of_pairs(pairs: Sequence[tuple[float, float]]) -> Pair:
    """Return what pairs of (ours, bare) block medians say."""
    return Pair(
        ours=statistics.median(a for a, _ in pairs),
        bare=statistics.median(b for _, b in pairs),
        ratio=statistics.median(a / b for a, b in pairs),
        added=statistics.median(a - b for a, b in pairs),
    )


def averaging_net(path: Path, side: int) -> Path:
    """Write a network that does next to nothing with an image, so that what is around it shows; return its path."""
    weights = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["scores"]),
    ]
    return _save(path, nodes, {"w": weights}, (1, side, side, 3), (1, 10))


def conv_net(path: Path, *, side: int = 96, channels: int = 48, layers: int = 6) -> Path:
    """Write a plain convolutional network of some tens of milliseconds on one core; return its path."""
    random, nodes, weights, before = np.random.default_rng(0), [], {}, "image"
    for layer in range(layers):
        inputs = 3 if layer == 0 else channels
        scale = np.sqrt(2 / (9 * inputs))
        weights[f"w{layer}"] = random.normal(scale=scale, size=(channels, inputs, 3, 3)).astype(np.float32)
        nodes += [
            helper.make_node("Conv", [before, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]),
        ]
        before = f"r{layer}"
    nodes.append(helper.make_node("ReduceMean", [before], ["scores"], axes=[2, 3], keepdims=0))
    return _save(path, nodes, weights, (1, 3, side, side), (1, channels))


def _save(path: Path, nodes: list[Any], weights: dict[str, Any], takes: Sequence[int], gives: Sequence[int]) -> Path:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, takes)],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, gives)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def spec_of(model: Path, **rest: Any) -> RunnerSpec:
    """Return the specification of a model file, for one thread of the usual runtime."""
    is_onnx = model.suffix == ".onnx"
    return RunnerSpec(
        model="bench",
        model_path=str(model),
        format=ModelFormat.ONNX if is_onnx else ModelFormat.TFLITE,
        runtimes=(RuntimeChoice(name=RuntimeName.ONNXRUNTIME if is_onnx else RuntimeName.LITERT),),
        limits=RunLimits(start_seconds=READY_SECONDS),
        **rest,
    )


def bare(model: Path) -> tuple[str, tuple[int, ...], Callable[[Any], Any]]:
    """Return the name and shape of a model's input, and a call of the bare runtime."""
    if model.suffix == ".onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        taken = session.get_inputs()[0]
        return taken.name, tuple(taken.shape), lambda array: session.run(None, {taken.name: array})
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    detail, outputs = interpreter.get_input_details()[0], [d["index"] for d in interpreter.get_output_details()]
    index = detail["index"]

    def call(array: Any) -> Any:
        interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(output) for output in outputs]

    return detail["name"], tuple(int(n) for n in detail["shape"]), call


def block(call: Callable[[], Any], seconds: float) -> float:
    """Return the median time of a call, in seconds, called back to back for so long."""
    clock, samples, end = time.perf_counter_ns, [], time.perf_counter_ns() + int(seconds * 1e9)
    while True:
        before = clock()
        call()
        after = clock()
        samples.append(after - before)
        if after >= end:
            return statistics.median(samples) / 1e9


def _loop_pairs(model: str, effort: Effort) -> list[tuple[float, float]]:
    """Return block medians of the runner's own loop and of the bare runtime, in turn; in a process of its own."""
    name, shape, call = bare(Path(model))
    session = open_model(spec_of(Path(model))).session
    image = np.random.default_rng(1).random(shape, np.float32)
    feeds = [{name: image}]
    seconds = effort.block_seconds
    plan = MeasurePlan(warmup_runs=20, warmup_seconds=seconds, min_runs=20, min_seconds=seconds)

    def ours() -> float:
        timed = timed_runs(session, feeds, plan, beat=lambda: None, between=lambda: None, every_ns=10**9)
        return statistics.median(timed.samples_ns) / 1e9

    warm_up(session, feeds, plan, lambda: None)
    block(lambda: call(image), seconds)
    found = []
    for number in range(effort.pairs):
        # Who comes first gains or loses by it: each in turn.
        first = ours() if number % 2 else None
        other = block(lambda: call(image), seconds)
        found.append((first if first is not None else ours(), other))
    return found


def loop_against_bare(model: Path, effort: Effort) -> Pair:
    """Return how the runner's own loop compares with the bare runtime."""
    context = multiprocessing.get_context("spawn")
    pairs: list[tuple[float, float]] = []
    for _ in range(effort.processes):
        with ProcessPoolExecutor(1, mp_context=context) as process:
            pairs += process.submit(_loop_pairs, str(model), effort).result()
    return of_pairs(pairs)


class Served:
    """A model that a runner serves on a Unix socket, as the agent starts it."""

    def __init__(self, model: Path, folder: Path, **rest: Any) -> None:
        self.path = folder / "s.sock"
        spec = spec_of(model, socket_path=str(self.path), **rest)
        self.process: RunnerProcess = app.launcher(None, folder, SystemClock()).start(spec, RunnerMode.SERVE)
        end = time.monotonic() + READY_SECONDS
        while (seen := self.process.observe()).state is not RunnerState.READY:
            if seen.state is RunnerState.EXITED or time.monotonic() > end:
                raise SystemExit(f"the runner did not become ready: {seen.detail}")
            time.sleep(0.01)

    def client(self) -> Client:
        """Return a client of its own."""
        return Client("bench", path=self.path)

    def close(self) -> None:
        """End the runner."""
        self.process.stop(grace_seconds=1.0)


def socket_against_bare(model: Path, effort: Effort) -> Pair:
    """Return how a request through the Unix socket, in binary tensors, compares with the bare runtime."""
    name, shape, call = bare(model)
    image = np.random.default_rng(1).random(shape, np.float32)
    pairs = []
    for _ in range(effort.processes):
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(Served(model, Path(folder))) as served,
            served.client() as client,
        ):
            block(lambda: client.infer({name: image}), effort.block_seconds)
            for _ in range(effort.pairs):
                through = block(lambda: client.infer({name: image}), effort.block_seconds)
                pairs.append((through, block(lambda: call(image), effort.block_seconds)))
    return of_pairs(pairs)


def own_and_theirs(model: Path, *, seconds: float, rounds: int) -> tuple[Times, Times, str]:
    """Return medians of our ``benchmark`` and of the runtime's own tool in turn, in seconds, and the tool's name."""
    theirs, tool = (_onnxruntime_profile, "ONNX Runtime's profiler") if model.suffix == ".onnx" else _litert()
    plan = MeasurePlan(warmup_runs=20, warmup_seconds=seconds / 4, min_runs=50, min_seconds=seconds, max_seconds=60)
    ours: Times = []
    found: Times = []
    for _ in range(rounds):
        ours.append(app.benchmark(ProfileRequest(model=str(model), plan=plan)).latency.p50_ns / 1e9)
        found.append(theirs(model, seconds))
    return ours, found, tool


def _litert() -> tuple[Callable[[Path, float], float], str]:
    if LITERT_TOOL.exists():
        return _litert_benchmark, "litert-benchmark"
    return _plain_loop, "a plain loop (litert-benchmark is not installed)"


def _litert_benchmark(model: Path, seconds: float) -> float:
    runs = max(50, int(seconds / _plain_loop(model, 0.1)))
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [str(LITERT_TOOL), f"--model={model}", "--num_threads=1", f"--num_runs={runs}", "--warmup_runs=50"]
        done = subprocess.run([*command, f"--result_json={result}"], capture_output=True, text=True, check=False)
        if not result.exists():
            raise SystemExit(f"litert-benchmark: no result: {done.stderr[-500:]}")
        return float(json.loads(result.read_text())["latency"]["median_ms"]) / 1e3


def _plain_loop(model: Path, seconds: float) -> float:
    _, shape, call = bare(model)
    image = np.zeros(shape, np.float32)
    return block(lambda: call(image), seconds)


def _onnxruntime_profile(model: Path, seconds: float) -> float:
    """Return the median ``model_run`` event of ONNX Runtime's own profiler."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        taken = session.get_inputs()[0]
        image, end = np.zeros(taken.shape, np.float32), time.monotonic() + 1.25 * seconds
        while time.monotonic() < end:
            session.run(None, {taken.name: image})
        events = json.loads(Path(session.end_profiling()).read_text())
    runs = [event["dur"] for event in events if event.get("name") == "model_run"]
    return statistics.median(runs[len(runs) // 5 :]) / 1e6
