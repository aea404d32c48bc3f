"""``assert_never`` for Python 3.10: lets the type checker prove that a ``match`` is complete."""

from typing import NoReturn


def assert_never(value: NoReturn) -> NoReturn:
    """Never return; reached only by a value that no branch knows, which is a defect."""
    raise AssertionError(f"unhandled: {value!r}")
