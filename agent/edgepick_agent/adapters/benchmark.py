"""Measuring any model file in a runner process of its own, for the technician's ``benchmark``."""

import dataclasses
import json
import os
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepick_agent import errors
from edgepick_agent.adapters.clock import SystemClock
from edgepick_agent.adapters.model_file import TFLITE_MAGIC, read_head
from edgepick_agent.adapters.runner_process import Launcher, Process, write_atomically
from edgepick_agent.core.combine import Run, combine, failed_point, sweep_point
from edgepick_agent.core.passes import Passes, check_cpus
from edgepick_agent.core.profile import PassesFound, Profile, SweepPoint, SweepSetting
from edgepick_agent.core.profile_request import ProfileRequest
from edgepick_agent.core.runner_spec import RunnerFailure, RunnerMode, RunnerResult, RunnerSpec
from edgepick_agent.core.samples import CLOSED_LOOP, FIXED_RATE, FOUND, TRACED, unpack_samples
from edgepick_agent.core.trace import Traced, trace
from edgepick_agent.ports import RunnerState
from edgepick_wire.codec import decode_document, plain
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName

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


def benchmark(asked: ProfileRequest, tell: Callable[[str], None]) -> Profile:
    """Return the profile; see :func:`edgepick_agent.app.benchmark`."""
    kind = format_of(Path(asked.model))
    _check(asked)
    with tempfile.TemporaryDirectory(prefix="edgepick-") as folder:
        launcher = Launcher(asked.python, Path(folder), SystemClock())
        starts = _starts(launcher, asked, kind, asked.restarts, lambda n: tell(f"start {n} of {asked.restarts}"))
        profile = combine([start.run for start in starts], cpus=asked.passes.cpus)
        points = [_point(launcher, asked, kind, setting, tell) for setting in asked.sweep]
    if asked.trace:
        _write_trace(Path(asked.trace), starts, Path(asked.model).name)
    return dataclasses.replace(profile, sweep=tuple(points))


def _check(asked: ProfileRequest) -> None:
    """Refuse now what would lose every figure after all the work."""
    for cpus in (asked.passes.cpus, *(setting.cpus for setting in asked.sweep)):
        check_cpus(cpus, os.sched_getaffinity(0))
    if asked.trace:
        with _writing(Path(asked.trace)), tempfile.TemporaryFile(dir=Path(asked.trace).parent):
            pass


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.StorageError(f"{path}: {(error.strerror or 'cannot be written').lower()}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    run: Run
    traced_ns: "array[int]"


def _starts(
    launcher: Launcher, asked: ProfileRequest, kind: ModelFormat, count: int, tell: Callable[[int], None]
) -> list[_Start]:
    starts = []
    for number in range(1, count + 1):
        tell(number)
        passes = dataclasses.replace(asked.passes, samples=True, trace=asked.trace is not None)
        if number > 1:
            # Which operator takes how long, and what happened when, is looked at once.
            passes = dataclasses.replace(passes, operators=False, trace=False)
        starts.append(_start(launcher, asked, _spec(asked, kind, passes)))
    return starts


def _point(
    launcher: Launcher, asked: ProfileRequest, kind: ModelFormat, setting: SweepSetting, tell: Callable[[str], None]
) -> SweepPoint:
    plan = dataclasses.replace(asked.plan, threads=setting.threads)
    passes = dataclasses.replace(asked.passes, cpus=setting.cpus, rate_per_s=None, operators=False, trace=False)
    changed = dataclasses.replace(asked, plan=plan, passes=passes, golden=None, trace=None)
    try:
        starts = _starts(launcher, changed, kind, asked.restarts, lambda n: tell(f"sweep {setting}: start {n}"))
    except errors.RunError as error:
        return failed_point(setting, str(error))
    return sweep_point(combine([start.run for start in starts], cpus=setting.cpus))


def _spec(asked: ProfileRequest, kind: ModelFormat, passes: Passes) -> RunnerSpec:
    return RunnerSpec(
        model="benchmark",
        model_path=str(Path(asked.model).absolute()),
        format=kind,
        runtimes=_choices(kind, asked.runtime, asked.accelerators, asked.plan.threads),
        golden=asked.golden,
        plan=asked.plan,
        passes=passes,
        limits=asked.limits,
        sensors=asked.sensors,
        power=asked.power,
        broker=asked.broker,
        sysfs_root=asked.sysfs_root,
        stand_in=asked.stand_in,
    )


def _start(launcher: Launcher, asked: ProfileRequest, spec: RunnerSpec) -> _Start:
    try:
        process = launcher.start(spec, RunnerMode.MEASURE)
    except OSError as error:
        raise errors.RunError(f"cannot start {asked.python or 'the runner'}: {error}") from error
    try:
        result = _await(process)
        samples, paced, traced = (unpack_samples(process.left(n) or b"") for n in (CLOSED_LOOP, FIXED_RATE, TRACED))
        found = decode_document(PassesFound, process.left(FOUND) or b"{}")
    finally:
        process.stop(grace_seconds=0)
    assert result.measurement is not None
    run = Run(measurement=result.measurement, found=found, samples_ns=samples, paced_ns=paced)
    return _Start(run=run, traced_ns=traced)


def _write_trace(path: Path, starts: Sequence[_Start], title: str) -> None:
    parts = [
        Traced(
            phases=start.run.found.phases,
            inferences_ns=start.traced_ns,
            during=start.run.found.during,
            operators=start.run.found.operators,
        )
        for start in starts
    ]
    with _writing(path):
        write_atomically(path, json.dumps(plain(trace(parts, title=title))).encode())


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


def _await(process: Process) -> RunnerResult:
    while True:
        seen = process.observe()
        if seen.state is RunnerState.EXITED:
            return _outcome(process, seen.detail)
        if seen.state in (RunnerState.HUNG, RunnerState.OVER_MEMORY):
            raise errors.RunError(f"the runner was ended: {seen.detail}")
        time.sleep(LOOK_SECONDS)


def _outcome(process: Process, detail: str) -> RunnerResult:
    result = process.result()
    if result is not None and result.measurement is not None:
        return result
    raise to_error(result.failure if result else None, detail)


def to_error(failure: RunnerFailure | None, detail: str) -> errors.RunError:
    """Return the error that a runner's failure was; without one, the runner ended without a word."""
    if failure is None:
        return errors.RunError(f"the runner ended without a result: {detail}")
    return FAILURES.get(failure.code, errors.RunError)(failure.detail, hint=failure.hint)
