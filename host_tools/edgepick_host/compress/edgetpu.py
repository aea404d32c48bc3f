"""Runs Coral's ``edgetpu_compiler``, where it is installed: a model in, the compiled model and the log's facts out.

The compiler is a closed program that starts processes of its own, so it gets a session of its own, of which nothing is
left when the call ends: after a time limit, an interrupt, a crash. It works in a folder that goes with the call.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edgepick_host.compress.source import describe
from edgepick_host.core.edge_tpu import CUSTOM_OPERATOR, EdgeTpuFacts, failure_in, read_log
from edgepick_host.errors import InputFileError
from edgepick_wire.ids import digest_of
from edgepick_wire.manifest import ModelFormat

COMPILER = "edgetpu_compiler"
NOT_THERE = f"{COMPILER} is not on PATH"
TIMEOUT_SECONDS = 600.0
"""Its own timer ends one attempt after 180 s; some models take more than one."""

VERSION_SECONDS = 20.0
MOST_LOG_BYTES = 1 << 20

SHELL_SIGNALS = 128
"""A shell, which Debian's package starts it through, adds this to the number of the signal that ended its child."""

_OUTPUT = "output.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """What came of one run.

    Attributes:
        model: The compiled file; empty if there is none.
        facts: From the log; they say why there is none.
        lasting: Another run would end the same way.
    """

    model: bytes = b""
    facts: EdgeTpuFacts
    lasting: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """A process that ended, or had to be ended."""

    code: int | None
    said: str


def find_compiler() -> Path | None:
    """Return the compiler on ``PATH``, if there is one."""
    found = shutil.which(COMPILER)
    return Path(found) if found else None


def compiler_version(compiler: Path) -> str:
    """Return what the compiler calls itself; empty if it does not say."""
    with tempfile.TemporaryDirectory(prefix="edgepick-") as name:
        return read_log(_run([str(compiler), "--version"], Path(name), VERSION_SECONDS).said).compiler


def compile_model(model: bytes, compiler: Path, *, seconds: float = TIMEOUT_SECONDS) -> Compilation:
    """Return the compiled model, or why there is none.

    Args:
        model: A fully quantized ``.tflite`` file.
        compiler: The program.
        seconds: It is ended after this time.
    """
    with tempfile.TemporaryDirectory(prefix="edgepick-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(model)
        ended = _run([str(compiler), "-s", "-o", name, "model.tflite"], folder, seconds)
        facts = _facts(ended.said, folder)
        if ended.code is None:
            return _failed(facts, f"{COMPILER} was stopped after {seconds:.0f} s", lasting=False)
        if ended.code != 0:
            return _broken(facts, ended)
        return _checked(facts, model, _read(folder / "model_edgetpu.tflite", None))


def _facts(said: str, folder: Path) -> EdgeTpuFacts:
    """Return what the output says; the table may be in the log file alone."""
    facts = read_log(said)
    if facts.operators:
        return facts
    return replace(facts, operators=read_log(_text(folder / "model_edgetpu.log")).operators)


def _broken(facts: EdgeTpuFacts, ended: _Ended) -> Compilation:
    assert ended.code is not None
    number = -ended.code if ended.code < 0 else ended.code - SHELL_SIGNALS
    if number > 0:
        return _failed(facts, f"{COMPILER} was killed by {_signal_name(number)}", lasting=False)
    said = failure_in(ended.said)
    why = said or f"it ended with code {ended.code} and gave no reason"
    # "Internal compiler error" is known to come and go (google-coral/edgetpu issue 211).
    return _failed(facts, f"{COMPILER} failed: {why}", lasting=bool(said) and "nternal" not in said)


def _checked(facts: EdgeTpuFacts, model: bytes, compiled: bytes) -> Compilation:
    if not compiled:
        return _failed(facts, f"{COMPILER} said that it succeeded, and wrote no file", lasting=False)
    if facts.operators and not facts.mapped:
        return _failed(facts, f"{COMPILER} mapped none of its {facts.total} operators")
    try:
        found = describe(compiled, ModelFormat.TFLITE, Path("model_edgetpu.tflite"))
    except InputFileError as error:
        return _failed(facts, f"what {COMPILER} wrote is no model: {error}", lasting=False)
    if CUSTOM_OPERATOR not in found.operator_names:
        return _failed(facts, f"what {COMPILER} wrote holds nothing for the Edge TPU (no {CUSTOM_OPERATOR})")
    return Compilation(model=compiled, facts=replace(facts, compiled_from=digest_of(model)))


def _failed(facts: EdgeTpuFacts, why: str, *, lasting: bool = True) -> Compilation:
    return Compilation(facts=replace(facts, not_compiled=why), lasting=lasting)


def _run(command: list[str], folder: Path, seconds: float) -> _Ended:
    # A file, not a pipe: a process that the compiler left behind would hold a pipe open.
    with (folder / _OUTPUT).open("wb") as output:
        try:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            return _Ended(code=127, said=f"Compilation failed: it cannot be started: {error.strerror}")
        try:
            code: int | None = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return _Ended(code=code, said=_text(folder / _OUTPUT))


def _text(path: Path) -> str:
    return _read(path, MOST_LOG_BYTES).decode(errors="replace")


def _read(path: Path, most: int | None) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(-1 if most is None else most)
    except OSError:
        return b""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
