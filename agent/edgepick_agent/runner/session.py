"""Opening the model of a spec: the first of its runtimes that is installed and works."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from edgepick_agent import instruments
from edgepick_agent.core.runner_spec import RunnerSpec
from edgepick_agent.errors import AcceleratorError, ModelLoadError, RunError, RuntimeMissingError
from edgepick_agent.ports import Runtime, Session
from edgepick_agent.runner import process
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName

FORMATS = {
    ModelFormat.TFLITE: (RuntimeName.LITERT, RuntimeName.TFLITE_RUNTIME, RuntimeName.TFLM),
    ModelFormat.ONNX: (RuntimeName.ONNXRUNTIME,),
}
"""Which runtimes read which format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A loaded model and how long it took.

    Attributes:
        import_ns: Time to import the runtime.
        load_ns: Time to load the model and allocate its tensors.
        private_bytes: Private memory of this process with the runtime imported and no model yet.
    """

    session: Session
    import_ns: int
    load_ns: int
    private_bytes: int | None = None


def open_model(spec: RunnerSpec, *, threads: int = 1) -> Opened:
    """Return the model, loaded by the first runtime that is installed and has an accelerator that works.

    ``threads`` raises the number that the spec's choices name, never lowers it.

    Raises:
        RuntimeMissingError: None of the runtimes is installed.
        AcceleratorError: None of the installed ones has an accelerator that works.
        ModelLoadError: The file is not a model, or not one for this runtime.
    """
    problems: list[RunError] = []
    for choice in spec.runtimes:
        _check_format(spec, choice)
        try:
            return _open(spec, dataclasses.replace(choice, threads=max(choice.threads, threads)))
        except (RuntimeMissingError, AcceleratorError) as error:
            problems.append(error)
    if not problems:
        raise RuntimeMissingError("the spec names no runtime")
    # What is installed but does not work says more than what is not installed.
    worst = next((p for p in problems if isinstance(p, AcceleratorError)), problems[0])
    raise type(worst)("; ".join(str(p) for p in problems), hint=worst.hint) from worst


def _check_format(spec: RunnerSpec, choice: RuntimeChoice) -> None:
    allowed = FORMATS[spec.format]
    if choice.name not in allowed:
        raise ModelLoadError(
            f"{Path(spec.model_path).name}: {choice.name} does not read {spec.format} files",
            hint=f"{spec.format} is read by {', '.join(allowed)}",
        )


def _open(spec: RunnerSpec, choice: RuntimeChoice) -> Opened:
    started = time.perf_counter_ns()
    runtime: Runtime = instruments.adapter(instruments.RUNTIMES[choice.name])()
    runtime.available()
    import_ns = time.perf_counter_ns() - started
    private_bytes = process.own_private()
    began = time.perf_counter_ns()
    session = runtime.load(Path(spec.model_path), choice)
    load_ns = time.perf_counter_ns() - began
    return Opened(session=session, import_ns=import_ns, load_ns=load_ns, private_bytes=private_bytes)
