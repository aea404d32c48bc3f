"""What can go wrong on the device, each with a stable code, an exit code and a hint.

AgentError                     code                 exit
├── ConfigError                config               2
├── StorageError               storage              1
│   └── StorageFullError       storage-full         1
├── AlreadyRunningError        already-running      1
├── UnreachableError           unreachable          3
│   └── NotAnsweringError      not-answering        3
├── RefusedError               refused              1, 4 for signatures and digests
└── RunError                   run                  1
    ├── RuntimeMissingError    runtime-missing      1
    ├── ModelLoadError         model-load           1
    ├── AcceleratorError       accelerator          1
    ├── InputError             input                1
    ├── BusyError              busy                 1
    └── InferenceError         inference            1
"""

import errno
from typing import ClassVar

from edgepick_wire.messages import Refusal, RefusalCode

NOT_OURS = (
    "This is another account's: put sudo before the command. To give the service what is its own again: "
    "sudo edgepick-agent service install"
)
READ_ONLY = "What it lies on is mounted read-only: mount it to be written, or look in `dmesg` for why it became so."

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

MENDS = {
    errno.EACCES: NOT_OURS,
    errno.EPERM: NOT_OURS,
    errno.EROFS: READ_ONLY,
    **dict.fromkeys(FULL, "Free some space in the state directory."),
}
"""What the system says of a file -> what to do about it, where there is more to do than to look at the file system."""


class AgentError(Exception):
    """Root of the agent's errors: ``code`` is stable, ``hint`` tells the person what to do."""

    code: ClassVar[str] = "agent"
    exit_code: int = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(AgentError):
    """The configuration is wrong; the message lists every problem, one per line."""

    code = "config"
    exit_code = 2


class StorageError(AgentError):
    """The state directory cannot be read or written."""

    code = "storage"


class StorageFullError(StorageError):
    """No space left in the state directory."""

    code = "storage-full"


def storage_error(name: str, error: OSError) -> StorageError:
    """Return what the system said of a file in the state directory, as one of this tree."""
    kind = StorageFullError if error.errno in FULL else StorageError
    return kind(f"{name}: {error.strerror or error}", hint=mend_of(error, "Look at the file system's health."))


def mend_of(error: OSError, otherwise: str) -> str:
    """Return what to do about what the system said of a file."""
    return MENDS.get(error.errno or 0, otherwise)


class AlreadyRunningError(AgentError):
    """Another agent holds this state directory."""

    code = "already-running"


class UnreachableError(AgentError):
    """The broker, or the running agent, cannot be reached."""

    code = "unreachable"
    exit_code = 3


class NotAnsweringError(UnreachableError):
    """The agent is there, and says nothing."""

    code = "not-answering"


class RefusedError(AgentError):
    """A bundle was refused; carries the refusal."""

    code = "refused"

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail, hint=refusal.hint)
        self.refusal = refusal
        unverified = refusal.code in {RefusalCode.BAD_SIGNATURE, RefusalCode.DIGEST_MISMATCH}
        self.exit_code = 4 if unverified else 1


class RunError(AgentError):
    """A model cannot be run."""

    code = "run"


class RuntimeMissingError(RunError):
    """The runtime is not installed."""

    code = "runtime-missing"


class ModelLoadError(RunError):
    """The file is not a model, or not one that this runtime can run."""

    code = "model-load"


class AcceleratorError(RunError):
    """No allowed accelerator works."""

    code = "accelerator"


class InputError(RunError):
    """An input's name, shape or type does not fit the model."""

    code = "input"


class BusyError(RunError):
    """The model takes no further request now; a later one may succeed."""

    code = "busy"


class InferenceError(RunError):
    """The runtime failed while running."""

    code = "inference"
