"""Running a model on this host, one thread, one sample at a time, with float answers whatever it holds inside.

The host's answers stand for the device's only as far as its arithmetic does: on x86 without VNNI, ONNX Runtime's
fast int8 kernels saturate 16-bit sums (published MobileNetV2 accuracy: 58.6 % on such a host, 65.8 % elsewhere).
There, int8 ONNX models are evaluated with graph optimisation off, which computes the same graph in float.
"""

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from edgepick_host.compress.dataset import Array, Dataset, FloatArray
from edgepick_host.compress.quiet import quiet
from edgepick_host.core.model_facts import TensorFacts
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat

WARM_UP_RUNS = 3
MIN_RUNS = 15
MAX_RUNS = 200
LATENCY_SECONDS = 0.25
"""Enough for a median to hold still within some per cent; the device's own figures decide, not these."""


class Predictor(Protocol):
    """One loaded model."""

    def run(self, sample: Sequence[Array]) -> FloatArray:
        """Return the first output for one sample, as float32 in the model's real scale, without the batch."""
        ...


class TflitePredictor:
    """A ``.tflite`` model in LiteRT.

    Args:
        model: The file's bytes.
        reference: Use the reference kernels instead of the fast ones and their delegates.
    """

    def __init__(self, model: bytes, *, reference: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
        try:
            with quiet():
                self._interpreter = Interpreter(
                    model_content=model, num_threads=1, experimental_op_resolver_type=resolver
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise CompressionError(f"LiteRT does not load the model: {_first_line(error)}") from error
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        self._output = self._outputs[0]

    def quantized(self, sample: Sequence[Array]) -> list[Array]:
        """Return the sample in the types of the model's inputs."""
        return [
            quantize(array, details["quantization"], np.dtype(details["dtype"]))
            for array, details in zip(sample, self._inputs, strict=True)
        ]

    @property
    def input_scales(self) -> list[tuple[float, int]]:
        """Scale and zero point of each input; (0, 0) where it is not quantized."""
        return [details["quantization"] for details in self._inputs]

    @property
    def output_scales(self) -> list[tuple[float, int]]:
        """Likewise of each output."""
        return [details["quantization"] for details in self._outputs]

    def run_raw(self, sample: Sequence[Array]) -> list[Array]:
        """Return every output as the model gives it, batch included."""
        for array, details in zip(self.quantized(sample), self._inputs, strict=True):
            self._interpreter.set_tensor(details["index"], array)
        self._interpreter.reset_all_variables()  # a recurrent layer would remember the sample before
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(details["index"]) for details in self._outputs]

    def run(self, sample: Sequence[Array]) -> FloatArray:
        """Return the first output in its real scale."""
        return cast("FloatArray", dequantize(self.run_raw(sample)[0], self._output["quantization"])[0])


class OnnxPredictor:
    """An ONNX model in ONNX Runtime, on the CPU."""

    def __init__(self, model: bytes, *, optimise: bool = True) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
        try:
            with quiet():
                self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base class of their own
            raise CompressionError(f"ONNX Runtime does not load the model: {_first_line(error)}") from error
        self._names = [value.name for value in self._session.get_inputs()]
        self._output = self._session.get_outputs()[0].name

    def run(self, sample: Sequence[Array]) -> FloatArray:
        """Return the first output."""
        try:
            found = self._session.run([self._output], dict(zip(self._names, sample, strict=True)))
        except Exception as error:  # as above
            raise CompressionError(f"ONNX Runtime does not run the model: {_first_line(error)}") from error
        return cast("FloatArray", np.asarray(found[0], dtype=np.float32)[0])


def open_predictor(model: bytes, model_format: ModelFormat, *, exact: bool = False) -> Predictor:
    """Return the model, loaded.

    Args:
        model: The file's bytes.
        model_format: How to read it.
        exact: Prefer answers that do not suffer from this host's arithmetic over speed.

    Raises:
        CompressionError: The runtime does not load it.
    """
    if model_format is ModelFormat.TFLITE:
        return TflitePredictor(model)
    return OnnxPredictor(model, optimise=not (exact and int8_sums_may_saturate()))


def int8_sums_may_saturate() -> bool:
    """Return whether this is an x86 host without VNNI, as far as the kernel tells."""
    if platform.machine() not in {"x86_64", "AMD64", "i686"}:
        return False
    try:
        return "_vnni" not in Path("/proc/cpuinfo").read_text()
    except OSError:
        return True


def predict(predictor: Predictor, dataset: Dataset, inputs: Sequence[TensorFacts]) -> FloatArray:
    """Return the first output for every sample, ``[N, ...]`` float32."""
    return np.stack([predictor.run(sample) for sample in dataset.samples(inputs)])


def median_latency_ns(predictor: Predictor, dataset: Dataset, inputs: Sequence[TensorFacts]) -> int:
    """Return the median time of one inference on this host, in nanoseconds."""
    sample = next(dataset.samples(inputs))
    for _ in range(WARM_UP_RUNS):
        predictor.run(sample)
    durations: list[int] = []
    end = time.perf_counter() + LATENCY_SECONDS
    while len(durations) < MIN_RUNS or (len(durations) < MAX_RUNS and time.perf_counter() < end):
        start = time.perf_counter_ns()
        predictor.run(sample)
        durations.append(time.perf_counter_ns() - start)
    return int(np.median(durations))


def quantize(array: Array, quantization: tuple[float, int], dtype: np.dtype[Any]) -> Array:
    """Return real values in a tensor's own type: ``round(x / scale) + zero point``, within its range."""
    scale, zero_point = quantization
    if dtype.kind == "f" or not scale:
        return array.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.round(array / scale) + zero_point, limits.min, limits.max).astype(dtype)


def dequantize(array: Array, quantization: tuple[float, int]) -> FloatArray:
    """Return a tensor's real values: ``(q - zero point) * scale``."""
    scale, zero_point = quantization
    real: npt.NDArray[np.float32] = array.astype(np.float32)
    return real if not scale else ((real - np.float32(zero_point)) * np.float32(scale)).astype(np.float32)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
