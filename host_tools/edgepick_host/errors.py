"""What can go wrong on the host, each with a stable code, an exit code and a hint.

HostError                      code                 exit
├── InputFileError             input-file           2
├── ConfigError                config               2
├── MissingExtraError          missing-extra        2
├── UnreachableError           unreachable          3
├── BrokerRefusedError         broker-refused       3
├── VerificationError          verification         4
├── SignerError                signer               1
├── StateError                 state                1
│   └── BusyError              busy                 1
└── CompressionError           compression          1
"""

from typing import ClassVar


class HostError(Exception):
    """Root of the host's errors: ``code`` is stable, ``hint`` tells the person what to do."""

    code: ClassVar[str] = "host"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InputFileError(HostError):
    """A file given by the user is not what it should be."""

    code = "input-file"
    exit_code = 2


class ConfigError(HostError):
    """The configuration is wrong; the message lists every problem, one per line."""

    code = "config"
    exit_code = 2


class MissingExtraError(HostError):
    """A command needs an extra that is not installed."""

    code = "missing-extra"
    exit_code = 2


class UnreachableError(HostError):
    """The broker cannot be reached."""

    code = "unreachable"
    exit_code = 3


class BrokerRefusedError(HostError):
    """The broker answered, and said no (password, permissions)."""

    code = "broker-refused"
    exit_code = 3


class VerificationError(HostError):
    """A signature or digest is wrong."""

    code = "verification"
    exit_code = 4


class SignerError(HostError):
    """A command that holds a key (an HSM, a KMS) did not sign."""

    code = "signer"


class StateError(HostError):
    """The store does not allow this now (unknown rollout, wrong phase, ...)."""

    code = "state"


class BusyError(StateError):
    """Another process is at work where only one may be: a coordinator for a fleet, a ``prune`` for a broker."""

    code = "busy"


class CompressionError(HostError):
    """A compression step failed in a way that is not the user's doing."""

    code = "compression"
