"""The TensorFlow Lite interpreter, which LiteRT and tflite-runtime both are: loading and running.

The CPU path applies XNNPACK by itself, so "cpu" lets the interpreter choose and the session says
what it chose; "xnnpack" insists on it. Other accelerators are external delegates.
"""

import ctypes
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepick_agent.adapters import native_stderr
from edgepick_agent.adapters.accelerators import first_that_works
from edgepick_agent.adapters.feed_check import FeedCheck
from edgepick_agent.adapters.model_file import check_tflite, one_line, unloadable
from edgepick_agent.core.profile import Placement
from edgepick_agent.errors import AcceleratorError, InferenceError, InputError, RuntimeMissingError
from edgepick_agent.ports import TensorSpec
from edgepick_wire.manifest import RuntimeChoice
from edgepick_wire.messages import RuntimeAvailable
from edgepick_wire.metrics import RuntimeUsed

if TYPE_CHECKING:
    from edgepick_agent.ports import Array

DELEGATE_LIBRARIES = {"edgetpu": "libedgetpu.so.1"}
"""Accelerator -> the shared library of its external delegate."""

BUILT_IN = ("cpu", "xnnpack")

# What the interpreter's native layer raises: wrong content, failed allocation, missing library.
NATIVE_ERRORS = (ValueError, RuntimeError, OSError, TypeError, MemoryError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An installed interpreter package.

    Attributes:
        name: Runtime name.
        version: Its version.
        interpreter: The ``Interpreter`` class.
        load_delegate: Loads an external delegate from a shared library.
    """

    name: str
    version: str
    interpreter: Callable[..., Any]
    load_delegate: Callable[..., Any]


def delegates_found() -> tuple[str, ...]:
    """Return the external delegates whose shared library can be loaded here."""
    return tuple(name for name, library in DELEGATE_LIBRARIES.items() if _cannot_load(library) is None)


def _cannot_load(library: str) -> str | None:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return one_line(error)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """How the graph was split: the kinds of its operators, and of those that no delegate took."""

    kinds: Mapping[str, int]
    left: Mapping[str, int]

    @property
    def total(self) -> int:
        """Operators of the graph."""
        return sum(self.kinds.values())

    @property
    def taken(self) -> int:
        """How many of them delegates took."""
        return self.total - sum(self.left.values())


def available(engine_of: Callable[[], Engine]) -> RuntimeAvailable | None:
    """Return the installed engine and the delegates whose library can be loaded; ``None`` if it is missing."""
    try:
        engine = engine_of()
    except RuntimeMissingError:
        return None
    return RuntimeAvailable(
        name=engine.name, version=engine.version, accelerators=("cpu", "xnnpack", *delegates_found())
    )


def load(engine: Engine, model: Path, choice: RuntimeChoice) -> "TfliteSession":
    """Return the model on the first accelerator of ``choice`` that works.

    Raises:
        ModelLoadError: Not a model, or not one that this interpreter can run.
        AcceleratorError: No accelerator of the choice works.
    """
    check_tflite(model)
    return first_that_works(
        engine.name, choice.accelerators, lambda name, why: _load_on(engine, model, choice.threads, name, why)
    )


def _load_on(engine: Engine, model: Path, threads: int, accelerator: str, fallback: str | None) -> "TfliteSession":
    delegates = [] if accelerator in BUILT_IN else [_delegate(engine, accelerator)]
    interpreter = _interpreter(engine, model, threads, delegates, accelerator)
    nodes = count_nodes(interpreter)
    if accelerator != "cpu" and nodes is not None and not nodes.taken:
        raise AcceleratorError(f"{accelerator} took none of the {nodes.total} nodes")
    used = RuntimeUsed(
        name=engine.name,
        version=engine.version,
        accelerator="xnnpack" if accelerator == "cpu" and nodes and nodes.taken else accelerator,
        nodes=nodes.total if nodes else None,
        accelerated_nodes=nodes.taken if nodes else None,
        fallback_reason=fallback,
        threads=threads,
    )
    return TfliteSession(interpreter, used, place(nodes, used.accelerator, fallback))


def _delegate(engine: Engine, accelerator: str) -> Any:
    library = DELEGATE_LIBRARIES.get(accelerator)
    if library is None:
        allowed = ", ".join((*BUILT_IN, *DELEGATE_LIBRARIES))
        raise AcceleratorError(f"{accelerator!r} is not an accelerator of {engine.name}; it has {allowed}")
    # Asked first: a Delegate whose library is missing complains once more when it is collected.
    missing = _cannot_load(library)
    if missing:
        raise AcceleratorError(f"{accelerator} cannot be used: {missing}")
    try:
        with native_stderr.captured():
            return engine.load_delegate(library)
    except NATIVE_ERRORS as error:
        raise AcceleratorError(f"{accelerator} cannot be used: {one_line(error)}") from error


def _interpreter(engine: Engine, model: Path, threads: int, delegates: list[Any], accelerator: str) -> Any:
    with native_stderr.captured() as said:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # tflite-runtime announces its own successor
                interpreter = engine.interpreter(
                    model_path=str(model), num_threads=threads, experimental_delegates=delegates or None
                )
            interpreter.allocate_tensors()
        except NATIVE_ERRORS as error:
            failure = error
        else:
            return interpreter
    why = one_line(f"{failure} {said.errors}")
    if delegates:
        raise AcceleratorError(f"{accelerator} refused {model.name}: {why}") from failure
    raise unloadable(model, engine.name, why) from failure


def count_nodes(interpreter: Any) -> Nodes | None:
    """Return how many operators the graph has and how many delegates took, if the interpreter tells.

    A delegate replaces operators by one DELEGATE node, but they stay listed. An operator still runs
    if the graph's outputs depend on it by a path that no delegate node cuts.
    """
    try:
        operators = interpreter._get_ops_details()  # noqa: SLF001 - the only way to the graph from Python
        outputs = [int(detail["index"]) for detail in interpreter.get_output_details()]
    except (AttributeError, *NATIVE_ERRORS):
        return None
    delegates = [op for op in operators if op["op_name"] == "DELEGATE"]
    original = [op for op in operators if op["op_name"] != "DELEGATE"]
    left = _still_running(original, delegates, outputs) if delegates else original
    return Nodes(kinds=Counter(op["op_name"] for op in original), left=Counter(op["op_name"] for op in left))


def _still_running(original: Sequence[Any], delegates: Sequence[Any], outputs: Iterable[int]) -> list[Any]:
    producer = {int(t): op for op in (*original, *delegates) for t in op["outputs"]}
    pending, seen = list(outputs), set[int]()
    while pending:
        op = producer.get(pending.pop())
        if op is not None and op["index"] not in seen:
            seen.add(op["index"])
            pending.extend(int(t) for t in op["inputs"])
    return [op for op in original if op["index"] in seen]


def place(nodes: Nodes | None, accelerator: str, fallback: str | None) -> tuple[Placement, ...]:
    """Return how many operators the delegate took, and which ones it left to the CPU."""
    if nodes is None:
        return ()
    taken = {kind: count - nodes.left.get(kind, 0) for kind, count in sorted(nodes.kinds.items())}
    taken = {kind: count for kind, count in taken.items() if count}
    parts = [Placement(provider=accelerator, nodes=nodes.taken, kinds=taken, reason=fallback)] if taken else []
    if nodes.left:
        why = (
            f"{accelerator} did not take them: it has no kernel for these operators, types or shapes"
            if taken
            else fallback
        )
        left = dict(sorted(nodes.left.items()))
        parts.append(Placement(provider="cpu", nodes=sum(left.values()), kinds=left, reason=why))
    return tuple(parts)


class TfliteSession:
    """A loaded interpreter; keeps :class:`edgepick_agent.ports.Session`."""

    def __init__(self, interpreter: Any, used: RuntimeUsed, placement: tuple[Placement, ...] = ()) -> None:
        self._interpreter = interpreter
        self.placement = placement
        details = interpreter.get_input_details()
        self.inputs = tuple(tensor_spec(d) for d in details)
        self.outputs = tuple(tensor_spec(d) for d in interpreter.get_output_details())
        self.used = used
        self._check = FeedCheck(self.inputs)
        self._indexes = {d["name"]: d["index"] for d in details}
        self._shapes = {d["name"]: tuple(int(n) for n in d["shape"]) for d in details}
        self._output_indexes = [d["index"] for d in interpreter.get_output_details()]

    @property
    def arena_bytes(self) -> int | None:
        """``None``: the interpreter does not tell."""
        return None

    def run(self, feeds: Mapping[str, "Array"]) -> list["Array"]:
        """Run one inference; see :meth:`edgepick_agent.ports.Session.run`."""
        if self._check.is_new(feeds):
            self._resize(feeds)
        try:
            for name, array in feeds.items():
                self._interpreter.set_tensor(self._indexes[name], array)
            # Requests know nothing of one another: a recurrent layer starts afresh with each.
            self._interpreter.reset_all_variables()
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index) for index in self._output_indexes]
        except NATIVE_ERRORS as error:
            raise InferenceError(f"{self.used.name}: {one_line(error)}") from error

    def set(self, name: str, array: "Array") -> None:
        """Set one input."""
        self._interpreter.set_tensor(self._indexes[name], array)

    def invoke(self) -> None:
        """Run the inputs as they are set, and leave the outputs where they are."""
        self._interpreter.invoke()

    def _resize(self, feeds: Mapping[str, "Array"]) -> None:
        changed = {name: array.shape for name, array in feeds.items() if array.shape != self._shapes[name]}
        if not changed:
            return
        try:
            with native_stderr.captured():
                for name, shape in changed.items():
                    self._interpreter.resize_tensor_input(self._indexes[name], shape, strict=True)
                self._interpreter.allocate_tensors()
        except NATIVE_ERRORS as error:
            # Who comes next finds the shapes as nobody wants them, and sets its own.
            self._check.forget()
            self._shapes.update(dict.fromkeys(changed, ()))
            raise InputError(f"the model does not take shapes {changed}: {one_line(error)}") from error
        self._shapes.update(changed)

    def close(self) -> None:
        """Free the interpreter."""
        self._interpreter = None


def tensor_spec(detail: Mapping[str, Any]) -> TensorSpec:
    """Return an interpreter's tensor description as ours; -1 where the model file leaves a size open."""
    signature = detail.get("shape_signature")
    shape = detail["shape"] if signature is None or len(signature) == 0 else signature
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        name=str(detail["name"]),
        shape=tuple(int(n) for n in shape),
        dtype=dtype_name(detail["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )


def dtype_name(dtype: Any) -> str:
    """Return numpy's name of a type given as a numpy scalar class."""
    return "str" if dtype.__name__ in {"bytes_", "str_", "object_"} else str(dtype.__name__.rstrip("_"))
