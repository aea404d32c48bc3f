"""What can be wrong with a profile."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

HINT = "Mend the lines named; docs/profiles.md lists every key."


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in one file.

    Attributes:
        file: The file that holds it.
        key: Where in the file, dotted ("rules.formats[0]").
        found: What stands there.
        allowed: What may stand there.
        suggestion: What was probably meant; empty if there is no guess.
    """

    file: str
    key: str
    found: str
    allowed: str
    suggestion: str = ""

    def __str__(self) -> str:
        guess = f'; did you mean "{self.suggestion}"?' if self.suggestion else ""
        return f"{self.file}: {self.key}: found {self.found}; allowed: {self.allowed}{guess}"


class ProfileError(ValueError):
    """A profile is unknown or wrong; the message lists every problem, one per line."""

    code: ClassVar[str] = "profile"
    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.hint = hint
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> "ProfileError":
        """Return the error that lists ``problems``, each once, in their order."""
        unique = tuple(dict.fromkeys(problems))
        return cls("\n".join(map(str, unique)), hint=HINT, problems=unique)
