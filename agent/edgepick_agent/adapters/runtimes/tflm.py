"""TensorFlow Lite for Microcontrollers, run on a gateway: bit-true for int8, with the exact arena size.

It prints what is wrong on standard error and raises little more than "failed", so the text is
captured and becomes part of our message.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepick_agent.adapters import native_stderr
from edgepick_agent.adapters.feed_check import check_feeds
from edgepick_agent.adapters.model_file import check_tflite, one_line, unloadable
from edgepick_agent.errors import AcceleratorError, InferenceError, ModelLoadError, RuntimeMissingError
from edgepick_agent.ports import TensorSpec
from edgepick_wire.manifest import RuntimeChoice, RuntimeName
from edgepick_wire.messages import RuntimeAvailable
from edgepick_wire.metrics import RuntimeUsed

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

HINT = "install it: pip install 'edgepick[tflm]'"
NAME = RuntimeName.TFLM.value

FIRST_ARENA_BYTES = 1 << 20
LARGEST_ARENA_BYTES = 1 << 28
"""No microcontroller has more; untouched pages of an arena cost nothing."""
ALIGNMENT = 16
"""MicroArenaBufferAlignment() of tflite-micro."""
TOO_SMALL = re.compile(r"Failed to (resize|allocate)|missing: \d+|arena size", re.IGNORECASE)
RECORDED_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")

# What its native layer raises.
NATIVE_ERRORS = (ValueError, RuntimeError, IndexError, TypeError, AttributeError, MemoryError)


class Tflm:
    """Keeps :class:`edgepick_agent.ports.Runtime` with ``tflite_micro``."""

    def available(self) -> RuntimeAvailable | None:
        """Return the installed version; it runs on the CPU only."""
        try:
            _, version = _module()
        except RuntimeMissingError:
            return None
        return RuntimeAvailable(name=NAME, version=version)

    def load(self, model: Path, choice: RuntimeChoice) -> "TflmSession":
        """Return the loaded model; see :meth:`edgepick_agent.ports.Runtime.load`."""
        runtime, version = _module()
        check_tflite(model)
        if "cpu" not in choice.accelerators:
            raise AcceleratorError(
                f"tflm runs on the CPU only, not on {list(choice.accelerators)}",
                hint='name "cpu" among the accelerators',
            )
        content = model.read_bytes()
        graph = _graph(runtime, model, content)
        first = choice.accelerators[0]
        used = RuntimeUsed(
            name=NAME,
            version=version,
            accelerator="cpu",
            nodes=len(graph.operators or ()),
            fallback_reason=None if first == "cpu" else f"tflm has no {first}",
        )
        return TflmSession(runtime, model, content, graph, used)


def _module() -> tuple[Any, str]:
    try:
        with native_stderr.captured():
            import tflite_micro
            from tflite_micro import runtime
    except ImportError as error:
        raise RuntimeMissingError(f"tflite_micro is not installed: {error}", hint=HINT) from error
    return runtime, str(getattr(tflite_micro, "__version__", "unknown"))


def _graph(runtime: Any, model: Path, content: bytes) -> Any:
    """Return the first subgraph, after reading the whole file: the native layer does not verify it."""
    try:
        return runtime.convert_bytearray_to_object(content).subgraphs[0]
    # The generated reader runs off the end of a truncated file in as many ways as there are fields.
    except Exception as error:
        raise unloadable(model, NAME, one_line(error)) from error


class TflmSession:
    """A loaded micro interpreter; keeps :class:`edgepick_agent.ports.Session`."""

    def __init__(self, runtime: Any, model: Path, content: bytes, graph: Any, used: RuntimeUsed) -> None:
        self._runtime = runtime
        self._content = content
        self._interpreter = _load(runtime, model, content)
        self.inputs = tuple(
            _tensor_spec(graph.tensors[tensor].name, self._interpreter.get_input_details(i))
            for i, tensor in enumerate(graph.inputs)
        )
        self.outputs = tuple(
            _tensor_spec(graph.tensors[tensor].name, self._interpreter.get_output_details(i))
            for i, tensor in enumerate(graph.outputs)
        )
        self.used = used

    @property
    def arena_bytes(self) -> int | None:
        """The smallest arena, to 16 bytes, that the model loads in; loads it a few more times to find out."""
        with native_stderr.captured() as said:
            self._interpreter.print_allocations()
        recorded = RECORDED_TOTAL.search(said.text)
        return smallest_arena(self._loads_in, int(recorded[1])) if recorded else None

    def _loads_in(self, arena: int) -> bool:
        with native_stderr.captured():
            try:
                self._runtime.Interpreter.from_bytes(self._content, arena_size=arena)
            except NATIVE_ERRORS:
                return False
        return True

    def run(self, feeds: Mapping[str, "Array"]) -> list["Array"]:
        """Run one inference; see :meth:`edgepick_agent.ports.Session.run`."""
        check_feeds(self.inputs, feeds)
        try:
            for index, spec in enumerate(self.inputs):
                self._interpreter.set_input(feeds[spec.name], index)
            self._interpreter.reset()  # a recurrent layer starts afresh with each request
            self._interpreter.invoke()
            return [self._interpreter.get_output(index) for index in range(len(self.outputs))]
        except NATIVE_ERRORS as error:
            raise InferenceError(f"tflm: {one_line(error)}") from error

    def close(self) -> None:
        """Free the interpreter."""
        self._interpreter = None


def _load(runtime: Any, model: Path, content: bytes) -> Any:
    arena = max(FIRST_ARENA_BYTES, 10 * len(content))
    while True:
        with native_stderr.captured() as said:
            try:
                return runtime.Interpreter.from_bytes(content, arena_size=arena)
            except NATIVE_ERRORS as error:
                failure = error
        arena *= 4
        if arena > LARGEST_ARENA_BYTES or not TOO_SMALL.search(said.text):
            raise _refused(model, failure, said.text) from failure


def _refused(model: Path, failure: Exception, said: str) -> ModelLoadError:
    return unloadable(model, NAME, f"{failure} {said}")


def smallest_arena(loads_in: Callable[[int], bool], recorded: int) -> int:
    """Return the smallest multiple of 16 bytes that the model loads in.

    ``recorded`` is what the recording allocator counts once everything is placed; planning may need
    more for a moment (ad01 of MLPerf Tiny: 3 984 recorded, 4 640 needed), so it is only the start.
    """
    low, step = recorded // ALIGNMENT - 1, 1
    while not loads_in((low + step) * ALIGNMENT):
        low, step = low + step, step * 2
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if loads_in(middle * ALIGNMENT) else (middle, high)
    return high * ALIGNMENT


def _tensor_spec(name: bytes, detail: Mapping[str, Any]) -> TensorSpec:
    quantization = detail["quantization_parameters"]
    scales, zero_points = quantization["scales"], quantization["zero_points"]
    return TensorSpec(
        name=name.decode("utf-8", "replace"),
        shape=tuple(int(size) for size in detail["shape"]),
        dtype=str(detail["dtype"].__name__.rstrip("_")),
        scale=float(scales[0]) if len(scales) else 0.0,
        zero_point=int(zero_points[0]) if len(zero_points) else 0,
    )
