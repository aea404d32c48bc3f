"""Which tools made a variant, for the record."""

import platform
from importlib import metadata

from edgepick_wire.manifest import ModelFormat
from edgepick_wire.version import __version__

_TOOLS = {
    ModelFormat.TFLITE: ("ai-edge-quantizer", "ai-edge-litert", "numpy"),
    ModelFormat.ONNX: ("onnx", "onnxruntime", "numpy"),
}


def provenance(model_format: ModelFormat) -> dict[str, str]:
    """Return names and versions of what took part in making a variant of this format."""
    tools = {name: _version(name) for name in _TOOLS[model_format]}
    return {"edgepick": __version__, "python": platform.python_version(), **tools}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"
