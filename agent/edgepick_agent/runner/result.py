"""The runner's last words: a result file, written whole or not at all."""

import os
from pathlib import Path

from edgepick_agent.core.runner_spec import RunnerFailure, RunnerResult, RunnerSpec
from edgepick_agent.errors import AgentError, InferenceError
from edgepick_wire import codec


def failed(error: AgentError) -> RunnerFailure:
    """Return the failure that an error becomes: its code, sentence and hint."""
    return RunnerFailure(code=error.code, detail=str(error), hint=error.hint)


def write_result(spec: RunnerSpec, found: RunnerResult | RunnerFailure) -> None:
    """Put the result where the spec wants it, atomically; nothing happens if it wants none."""
    if spec.result_path is None:
        return
    result = found if isinstance(found, RunnerResult) else RunnerResult(failure=found)
    _replace(Path(spec.result_path), codec.encode_document(result))


def write_beside(spec: RunnerSpec, name: str, content: bytes) -> None:
    """Put a file beside the result, for what is too long for it; nothing happens if there is none."""
    if spec.result_path is not None:
        _replace(Path(spec.result_path).with_name(name), content)


def _replace(target: Path, content: bytes) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)


def give_up(spec: RunnerSpec) -> None:
    """Write that an inference did not end, and end the process at once: its thread cannot be stopped."""
    seconds = spec.limits.inference_seconds
    error = InferenceError(f"an inference took longer than {seconds:g} s", hint="use a smaller model or a higher limit")
    write_result(spec, failed(error))
    os.write(2, f"{error}\n".encode())
    os._exit(1)
