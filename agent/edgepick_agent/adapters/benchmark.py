"""Measuring any model file in a runner process of its own, for the technician's ``benchmark``."""

import tempfile
import time
from pathlib import Path

from edgepick_agent import errors
from edgepick_agent.adapters.model_file import TFLITE_MAGIC, read_head
from edgepick_agent.adapters.runner_process import Launcher, Process
from edgepick_agent.core.runner_spec import GoldenFile, RunnerFailure, RunnerMode, RunnerSpec
from edgepick_agent.ports import RunnerState
from edgepick_wire.manifest import ModelFormat, RunLimits, RuntimeChoice, RuntimeName
from edgepick_wire.metrics import Measurement, MeasurePlan

LOOK_SECONDS = 0.02

DEFAULT_RUNTIMES = {
    ModelFormat.TFLITE: (RuntimeName.LITERT, RuntimeName.TFLITE_RUNTIME),
    ModelFormat.ONNX: (RuntimeName.ONNXRUNTIME,),
}
"""Tried in order. tflm is not among them: it stands for a microcontroller, so it must be named."""

FAILURES = {
    kind.code: kind
    for kind in (
        errors.RunError,
        errors.RuntimeMissingError,
        errors.ModelLoadError,
        errors.AcceleratorError,
        errors.InputError,
        errors.InferenceError,
    )
}
"""Failure code of a runner -> the error it was."""


class _MonotonicClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> float:
        return time.time()


def benchmark(
    model: Path,
    *,
    runtime: str | None,
    accelerators: tuple[str, ...],
    plan: MeasurePlan,
    limits: RunLimits,
    golden: GoldenFile | None,
    sensors: tuple[str, ...],
    sysfs_root: str,
    python: str | None,
    stand_in: bool,
) -> Measurement:
    """Return the measurement; see :func:`edgepick_agent.app.benchmark`."""
    kind = format_of(model)
    spec = RunnerSpec(
        model="benchmark",
        model_path=str(model.absolute()),
        format=kind,
        runtimes=_choices(kind, runtime, accelerators, plan.threads),
        golden=golden,
        plan=plan,
        limits=limits,
        sensors=sensors,
        sysfs_root=sysfs_root,
        stand_in=stand_in,
    )
    with tempfile.TemporaryDirectory(prefix="edgepick-") as folder:
        try:
            process = Launcher(python, Path(folder), _MonotonicClock()).start(spec, RunnerMode.MEASURE)
        except OSError as error:
            raise errors.RunError(f"cannot start {python or 'the runner'}: {error}") from error
        try:
            return _await(process)
        finally:
            process.stop(grace_seconds=0)


def format_of(model: Path) -> ModelFormat:
    """Return the format of a model file, by its content where that tells, else by its name.

    Raises:
        ModelLoadError: It is missing, empty, or of neither format.
    """
    head = read_head(model)
    if head[4:8] == TFLITE_MAGIC or model.suffix == ".tflite":
        return ModelFormat.TFLITE
    if model.suffix == ".onnx":
        return ModelFormat.ONNX
    raise errors.ModelLoadError(
        f"{model.name} is neither a .tflite nor an .onnx model; it begins with {head!r}",
        hint="give a model file that ends in .tflite or .onnx",
    )


def _choices(
    kind: ModelFormat, runtime: str | None, accelerators: tuple[str, ...], threads: int
) -> tuple[RuntimeChoice, ...]:
    names = DEFAULT_RUNTIMES[kind] if runtime is None else (_named(runtime),)
    return tuple(RuntimeChoice(name=name, accelerators=accelerators, threads=threads) for name in names)


def _named(runtime: str) -> RuntimeName:
    try:
        return RuntimeName(runtime)
    except ValueError as error:
        known = ", ".join(RuntimeName)
        raise errors.RuntimeMissingError(f"no runtime is called {runtime!r}", hint=f"there are {known}") from error


def _await(process: Process) -> Measurement:
    while True:
        seen = process.observe()
        if seen.state is RunnerState.EXITED:
            return _outcome(process, seen.detail)
        if seen.state in (RunnerState.HUNG, RunnerState.OVER_MEMORY):
            raise errors.RunError(f"the runner was ended: {seen.detail}")
        time.sleep(LOOK_SECONDS)


def _outcome(process: Process, detail: str) -> Measurement:
    result = process.result()
    if result is not None and result.measurement is not None:
        return result.measurement
    raise to_error(result.failure if result else None, detail)


def to_error(failure: RunnerFailure | None, detail: str) -> errors.RunError:
    """Return the error that a runner's failure was; without one, the runner ended without a word."""
    if failure is None:
        return errors.RunError(f"the runner ended without a result: {detail}")
    return FAILURES.get(failure.code, errors.RunError)(failure.detail, hint=failure.hint)
