"""What a model file must look like before a runtime is allowed to touch it."""

from pathlib import Path

from edgepick_agent.errors import ModelLoadError

TFLITE_MAGIC = b"TFL3"
"""FlatBuffers file identifier at bytes 4 to 8 (tensorflow/lite/schema/schema.fbs)."""

EDGE_TPU_OPERATOR = "edgetpu-custom-op"
"""What ``edgetpu_compiler`` puts in the place of the operators that it mapped; no CPU has it."""


def check_tflite(model: Path) -> None:
    """Raise ``ModelLoadError`` if the file is not there, empty, or not a TensorFlow Lite model."""
    head = read_head(model)
    if head[4:8] != TFLITE_MAGIC:
        raise ModelLoadError(
            f"{model.name} is not a TensorFlow Lite model: bytes 4 to 8 are {head[4:8]!r}, expected {TFLITE_MAGIC!r}",
            hint="give a .tflite file as a converter wrote it",
        )


def read_head(model: Path, size: int = 8) -> bytes:
    """Return the first bytes of a file that is there and not empty; ``ModelLoadError`` otherwise."""
    try:
        with model.open("rb") as file:
            head = file.read(size)
    except OSError as error:
        raise ModelLoadError(f"{model}: {error.strerror}", hint="check the path and its permissions") from error
    if not head:
        raise ModelLoadError(f"{model.name} is empty", hint="copy or download the model again")
    return head


def unloadable(model: Path, runtime: str, why: str) -> ModelLoadError:
    """Return the error for a file that has the right beginning but that the runtime does not take."""
    hint = "the file may be truncated, or use an operator or number type that this runtime does not have"
    if EDGE_TPU_OPERATOR in why:
        hint = "the file was compiled for an Edge TPU, which did not take it: ask for edgetpu alone to see why"
    return ModelLoadError(
        f"{runtime} cannot load {model.name} ({model.stat().st_size} bytes): {one_line(why)}", hint=hint
    )


def one_line(text: object) -> str:
    """Return the text in one line of at most 500 characters."""
    return " ".join(str(text).split())[:500]
