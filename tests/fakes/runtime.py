"""A runtime that needs no model: its files hold a word, and it answers relu or what a test tells it."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgepick_agent.errors import AcceleratorError, InferenceError, InputError, ModelLoadError
from edgepick_agent.ports import TensorSpec
from edgepick_wire.manifest import RuntimeChoice
from edgepick_wire.messages import RuntimeAvailable
from edgepick_wire.metrics import RuntimeUsed

MAGIC = b"fake model"


class FakeSession:
    """Answers ``function`` of its single input; relu unless told otherwise."""

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray] = lambda a: np.maximum(a, 0),
        *,
        used: RuntimeUsed | None = None,
        tensor: TensorSpec | None = None,
        arena_bytes: int | None = None,
    ) -> None:
        given = tensor or TensorSpec(name="a", shape=(1, 4), dtype="float32")
        self.inputs = (given,)
        self.outputs = (
            TensorSpec(name="b", shape=given.shape, dtype=given.dtype, scale=given.scale, zero_point=given.zero_point),
        )
        self.used = used or RuntimeUsed(name="fake", version="1", accelerator="cpu")
        self.runs = 0
        self._function = function
        self._arena_bytes = arena_bytes

    @property
    def arena_bytes(self) -> int | None:
        return self._arena_bytes

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        wanted = self.inputs[0]
        if list(feeds) != [wanted.name]:
            raise InputError(f"the model takes inputs {[wanted.name]}, found {sorted(feeds)}")
        array = feeds[wanted.name]
        if array.dtype != wanted.dtype or array.shape != wanted.shape:
            raise InputError(
                f"input {wanted.name}: the model takes {wanted.dtype} {list(wanted.shape)},"
                f" found {array.dtype} {list(array.shape)}"
            )
        self.runs += 1
        try:
            return [self._function(array).astype(wanted.dtype)]
        except ArithmeticError as error:
            raise InferenceError(f"fake: {error}") from error

    def close(self) -> None:
        self._function = lambda a: a


class FakeRuntime:
    """Keeps :class:`edgepick_agent.ports.Runtime`; the only accelerator is the CPU."""

    def available(self) -> RuntimeAvailable:
        return RuntimeAvailable(name="fake", version="1")

    def load(self, model: Path, choice: RuntimeChoice) -> FakeSession:
        content = model.read_bytes() if model.is_file() else b""
        if content != MAGIC:
            raise ModelLoadError(f"{model.name} is not a fake model: it begins with {content[:10]!r}")
        if "cpu" not in choice.accelerators:
            raise AcceleratorError(f"no accelerator of {list(choice.accelerators)} works")
        why = None if choice.accelerators[0] == "cpu" else f"there is no {choice.accelerators[0]}"
        used = RuntimeUsed(name="fake", version="1", accelerator="cpu", fallback_reason=why, threads=choice.threads)
        return FakeSession(used=used)


def spin(seconds: float) -> None:
    """Use the CPU for some time, as an inference does."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
