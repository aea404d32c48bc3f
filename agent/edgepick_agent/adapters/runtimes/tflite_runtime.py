"""tflite-runtime: the older interpreter for .tflite models, for 32-bit ARM and older images.

Its last wheels were built against numpy 1, so it usually lives in an environment of its own,
which ``[runner] python`` in the configuration names.
"""

import warnings
from pathlib import Path

from edgepick_agent.adapters import native_stderr
from edgepick_agent.adapters.tflite_session import Engine, TfliteSession, available, load
from edgepick_agent.errors import RuntimeMissingError
from edgepick_wire.manifest import RuntimeChoice, RuntimeName
from edgepick_wire.messages import RuntimeAvailable

HINT = "install it in an environment of its own (it needs numpy 1): pip install 'edgepick[tflite]'"


class TfliteRuntime:
    """Keeps :class:`edgepick_agent.ports.Runtime` with ``tflite_runtime``."""

    def available(self) -> RuntimeAvailable | None:
        """Return the installed version and the delegates whose library can be loaded."""
        return available(_engine)

    def load(self, model: Path, choice: RuntimeChoice) -> TfliteSession:
        """Return the loaded model; see :meth:`edgepick_agent.ports.Runtime.load`."""
        return load(_engine(), model, choice)


def _engine() -> Engine:
    try:
        with native_stderr.captured(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tflite_runtime
            from tflite_runtime import interpreter
    # Under numpy 2 the import fails in several ways, AttributeError among them.
    except (ImportError, AttributeError, SystemError) as error:
        raise RuntimeMissingError(f"tflite_runtime cannot be imported: {error}", hint=HINT) from error
    return Engine(
        name=RuntimeName.TFLITE_RUNTIME.value,
        version=str(getattr(tflite_runtime, "__version__", "unknown")),
        interpreter=interpreter.Interpreter,
        load_delegate=interpreter.load_delegate,
    )
