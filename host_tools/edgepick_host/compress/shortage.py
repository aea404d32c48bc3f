"""Which failures are the machine's and not the model's: a full disk, too little memory."""

from collections.abc import Iterator

WORDS = ("allocate memory", "bad_alloc", "bad allocation", "No space left", "Protobuf serialization failed")
"""What engines say in errors of their own types: torch and ONNX Runtime the first, of memory; ONNX Runtime the last, of
a model that it cannot write to a full disk."""


def is_shortage(error: BaseException) -> bool:
    """Return whether an error comes from the machine, however an engine wrapped it; another try may go well."""
    return any(isinstance(each, OSError | MemoryError) or _says_so(each) for each in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _says_so(error: BaseException) -> bool:
    return any(words in str(error) for words in WORDS)
