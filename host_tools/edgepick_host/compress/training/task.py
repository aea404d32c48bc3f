"""The user's task file: a Python module that says what to train, and on what."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task file that was loaded and checked."""

    path: Path
