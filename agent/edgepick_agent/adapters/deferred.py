"""Modules that a dependency imports at once and a device never needs, put off until they are."""

import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager


class _Deferred(types.ModuleType):
    """Stands for a module until somebody asks for something in it."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def deferred(name: str) -> Iterator[None]:
    """Let what is imported in the block import submodule ``name`` without loading it; it is loaded on use.

    Nothing happens if it is loaded already.
    """
    if name in sys.modules:
        yield
        return
    package, _, leaf = name.rpartition(".")
    parent, stand_in = importlib.import_module(package), _Deferred(name)
    sys.modules[name] = stand_in
    setattr(parent, leaf, stand_in)
    try:
        yield
    finally:
        del sys.modules[name]
