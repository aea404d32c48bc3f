"""What can be wrong with a profile."""

from typing import ClassVar


class ProfileError(ValueError):
    """A profile is unknown or wrong; the message lists every problem, one per line."""

    code: ClassVar[str] = "profile"
    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
