"""Numbers among a training step's parameters, which are text."""

from collections.abc import Mapping

from edgepick_host.errors import CompressionError


def whole_number(parameters: Mapping[str, str], name: str, *, default: int, least: int) -> int:
    """Return a whole number.

    Raises:
        CompressionError: It is none, or less than ``least``.
    """
    text = parameters.get(name, str(default))
    if not text.isdecimal() or int(text) < least:
        raise CompressionError(f"parameter {name}={text!r}: a whole number of at least {least} is expected")
    return int(text)


def real_number(parameters: Mapping[str, str], name: str, *, default: float, least: float, most: float) -> float:
    """Return a number.

    Raises:
        CompressionError: It is none, or outside of ``least`` to ``most``.
    """
    text = parameters.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise CompressionError(f"parameter {name}={text!r}: a number from {least:g} to {most:g} is expected")
    return value
