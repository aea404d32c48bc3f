"""``StrEnum`` for Python 3.10, which devices with Ubuntu 22.04 still run."""

import sys

__all__ = ["StrEnum"]

if sys.version_info >= (3, 11):
    from enum import StrEnum
else:  # pragma: no cover - exercised on 3.10 only
    from enum import Enum

    class StrEnum(str, Enum):
        """An enum whose members are strings and print as their value."""

        __str__ = str.__str__
