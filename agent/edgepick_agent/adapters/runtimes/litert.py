"""LiteRT (``ai-edge-litert``): the interpreter for .tflite models on 64-bit devices."""

from pathlib import Path

from edgepick_agent.adapters import native_stderr
from edgepick_agent.adapters.tflite_session import Engine, TfliteSession, available, load
from edgepick_agent.errors import RuntimeMissingError
from edgepick_wire.manifest import RuntimeChoice, RuntimeName
from edgepick_wire.messages import RuntimeAvailable

HINT = "install it: pip install 'edgepick[litert]'"


class LiteRt:
    """Keeps :class:`edgepick_agent.ports.Runtime` with ``ai_edge_litert``."""

    def available(self) -> RuntimeAvailable | None:
        """Return the installed version and the delegates whose library can be loaded."""
        return available(engine)

    def load(self, model: Path, choice: RuntimeChoice) -> TfliteSession:
        """Return the loaded model; see :meth:`edgepick_agent.ports.Runtime.load`."""
        return load(engine(), model, choice)


def engine() -> Engine:
    """Return the installed interpreter.

    Raises:
        RuntimeMissingError: It is not installed.
    """
    try:
        with native_stderr.captured():
            import ai_edge_litert
            from ai_edge_litert import interpreter
    except ImportError as error:
        raise RuntimeMissingError(f"litert is not installed: {error}", hint=HINT) from error
    return Engine(
        name=RuntimeName.LITERT.value,
        version=str(getattr(ai_edge_litert, "__version__", "unknown")),
        interpreter=interpreter.Interpreter,
        load_delegate=interpreter.load_delegate,
    )
