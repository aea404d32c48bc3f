"""What can be wrong with something that arrived over the wire.

WireError                 code            raised when
├── MalformedError        malformed       the bytes are not a message of the expected kind
├── LimitError            limit           size, nesting or length is over a limit of ``limits``
├── BadNameError          bad-name        an identifier is not in the allowed alphabet
└── SignatureError        bad-signature   too few valid signatures by keys that may sign this

A *refusal* is not an error: it is the device's considered "no", and travels as a value
(:class:`edgepick_wire.messages.Refusal`).
"""

from typing import ClassVar


class WireError(ValueError):
    """Root of everything this package raises; ``code`` is stable, ``hint`` is for the person."""

    code: ClassVar[str] = "wire"
    hint: ClassVar[str] = "Check that host and agent speak the same protocol version."


class MalformedError(WireError):
    """The bytes are not a message of the expected kind."""

    code = "malformed"
    hint = "The sender is broken or speaks another protocol; compare its version with this one's."


class LimitError(WireError):
    """A size, nesting depth or list length is over its limit in :mod:`edgepick_wire.limits`."""

    code = "limit"
    hint = "Split the content; the limits are part of the protocol and cannot be raised on one side."


class BadNameError(WireError):
    """An identifier holds characters or a length that are not allowed."""

    code = "bad-name"
    hint = "Use 1 to 64 characters of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit."


class SignatureError(WireError):
    """Too few valid signatures by keys that may sign this kind of document."""

    code = "bad-signature"
    hint = "Publish again with the right key, or give the device the root document that names that key."
