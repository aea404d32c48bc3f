"""An interpreter with tflite-runtime, for the agent that stands in for a Raspberry Pi 3.

tflite-runtime's last wheels need numpy 1, so it gets a virtual environment of its own, made once and kept.
Whatever goes wrong is an answer, not an error: the demo then uses LiteRT and says so.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = ("tflite-runtime>=2.13", "numpy>=1.23,<2")
VENV_SECONDS = 120.0
PIP_SECONDS = 240.0
PROBE_SECONDS = 30.0
_PROBE = "import numpy, tflite_runtime, tflite_runtime.interpreter; print(tflite_runtime.__version__)"

Say = Callable[[str], None]
"""Takes one line of progress for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TfliteEnvironment:
    """The interpreter, or why there is none.

    Attributes:
        python: An interpreter that can import ``tflite_runtime``; ``None`` if there is none.
        version: Of tflite-runtime.
        reason: Why there is none; empty otherwise.
    """

    python: Path | None = None
    version: str = ""
    reason: str = ""


def default_folder() -> Path:
    """Return where the environment is kept between runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "edgepick" / f"tflite-runtime-py{sys.version_info.major}{sys.version_info.minor}"


def tflite_environment(folder: Path | None = None, *, say: Say) -> TfliteEnvironment:
    """Return an interpreter with tflite-runtime, made in ``folder`` if it is not there yet; never raises.

    Args:
        folder: Where the environment is or will be; ``None`` for the user's cache.
        say: Told what is being done, as it takes some seconds the first time.
    """
    try:
        return _prepare((folder or default_folder()).absolute(), say)
    except OSError as error:
        return TfliteEnvironment(reason=f"the environment cannot be made: {error}")


def _prepare(folder: Path, say: Say) -> TfliteEnvironment:
    found = _probe(folder)
    if found.python is not None:
        return found
    say(f"preparing tflite-runtime for the Raspberry Pi 3 stand-in in {folder} (once)")
    shutil.rmtree(folder, ignore_errors=True)
    reason = _make(folder) or _install(folder)
    if reason:
        shutil.rmtree(folder, ignore_errors=True)
        return TfliteEnvironment(reason=reason)
    return _probe(folder)


def _python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def _probe(folder: Path) -> TfliteEnvironment:
    python = _python_of(folder)
    if not python.exists():
        return TfliteEnvironment(reason="it is not installed")
    ended = _run([str(python), "-I", "-c", _PROBE], PROBE_SECONDS)
    if ended is None or ended.returncode != 0:
        return TfliteEnvironment(reason="tflite-runtime cannot be imported in its environment")
    return TfliteEnvironment(python=python, version=ended.stdout.strip())


def _make(folder: Path) -> str:
    """Return why no environment could be made; empty if it was."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    ended = _run([sys.executable, "-m", "venv", str(folder)], VENV_SECONDS)
    if ended is not None and ended.returncode == 0:
        return ""
    return "python -m venv does not work here (on Debian: apt-get install python3-venv)"


def _install(folder: Path) -> str:
    """Return why tflite-runtime could not be installed; empty if it was."""
    options = ("--quiet", "--disable-pip-version-check", "--retries", "1", "--only-binary", ":all:")
    ended = _run([str(_python_of(folder)), "-m", "pip", "install", *options, *REQUIREMENTS], PIP_SECONDS)
    if ended is None:
        return f"pip did not finish within {PIP_SECONDS:.0f} s"
    return "" if ended.returncode == 0 else explain(ended.stderr)


def explain(pip_output: str) -> str:
    """Return pip's complaint as one sentence for a person."""
    offline = (
        "NewConnectionError",
        "ConnectTimeoutError",
        "NameResolutionError",
        "ProxyError",
        "Network is unreachable",
    )
    if any(word in pip_output for word in offline):
        return "the package index cannot be reached (offline?)"
    if "No matching distribution found for tflite-runtime" in pip_output:
        return f"tflite-runtime has no wheel for Python {platform.python_version()} on {platform.machine()}"
    complaints = [line for line in pip_output.splitlines() if line.startswith("ERROR:")]
    return complaints[-1].removeprefix("ERROR:").strip() if complaints else "pip failed without a message"


def _run(command: Sequence[str], seconds: float) -> "subprocess.CompletedProcess[str] | None":
    """Return the ended process, ``None`` if it took too long."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return None
