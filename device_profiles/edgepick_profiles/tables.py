"""TOML tables to the records of :mod:`edgepick_profiles.schema`, with every mistake named.

A *table* here is a record not yet complete: field names to converted values, nested records still
tables. So two files can be merged before anything is required. Rules that hold for every field:

- Sizes (``*_bytes``) are whole bytes, or text such as ``"256 KiB"``.
- Every number is greater than zero.
- The text ``"none"`` empties an optional field that was inherited.
"""

import dataclasses
import re
import types
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgepick_profiles import schema
from edgepick_profiles.errors import Problem

T = TypeVar("T")
Table = dict[str, Any]

UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
VOCABULARIES: Mapping[str, tuple[str, ...]] = {
    "recipes": tuple(schema.KNOWN_RECIPES),
    "sensors": schema.KNOWN_SENSORS,
    "throttling": schema.KNOWN_THROTTLING,
}
OWN = ("name", "title", "description", "inherits")
"""What a profile says of itself only; never inherited."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB)")
_SIZE_ALLOWED = 'whole bytes, or text such as "256 KiB" (B, KiB, MiB, GiB)'
_WRONG = object()


class Problems:
    """Collects what is wrong with one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[Problem] = []

    def add(self, key: str, found: str, allowed: str, suggestion: str = "") -> Any:
        """Note one problem; returns the mark of a value that cannot be used."""
        problem = Problem(file=self.file, key=key, found=found, allowed=allowed, suggestion=suggestion)
        self.found.append(problem)
        return _WRONG

    def unknown(self, key: str, value: str, allowed: Iterable[str], what: str = "") -> Any:
        """Note a word that is not among ``allowed``, with the closest one as a guess."""
        words = tuple(allowed)
        return self.add(key, what or shown(value), ", ".join(words), closest(value, words))

    def names(self, key: str) -> bool:
        """Return whether something was already noted at or below ``key``."""
        return any(p.key == key or p.key.startswith((f"{key}.", f"{key}[")) for p in self.found)


def closest(word: str, words: Iterable[str]) -> str:
    """Return the word that was probably meant, or nothing."""
    known = list(words)
    close = get_close_matches(word, known, n=1) or [each for each in known if word and each.startswith(word)]
    return next(iter(close), "")


def shown(value: object) -> str:
    """Return a value as it stands in TOML, shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value[:60]}"'
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else str(value)[:60]


def read(kind: type, table: Mapping[str, Any], problems: Problems, key: str = "") -> Table:
    """Return what ``table`` says about a ``kind``, converted; what is wrong is noted and left out."""
    known = _types(kind)
    result: Table = {}
    for name, value in table.items():
        path = f"{key}.{name}" if key else name
        if name not in known:
            problems.unknown(path, name, known, what="a key that is not known")
            continue
        converted = _convert(known[name], value, path, problems)
        if converted is not _WRONG:
            result[name] = converted
    return result


def merge(base: Table, over: Table) -> Table:
    """Return ``over`` laid on ``base``: tables deeply, everything else replaced."""
    result = dict(base)
    for name, value in over.items():
        old = result.get(name)
        result[name] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def inherit(parent: Table, child: Table) -> Table:
    """Return ``child`` completed by what its parent says, apart from the parent's name and title."""
    return merge({name: value for name, value in parent.items() if name not in OWN}, child)


def require(kind: Any, table: Table, problems: Problems, key: str = "") -> None:
    """Note every field of ``kind`` that has no value and needs one."""
    for field in dataclasses.fields(kind):
        path = f"{key}.{field.name}" if key else field.name
        hint: Any = _types(kind)[field.name]
        if dataclasses.is_dataclass(hint):
            if path not in {p.key for p in problems.found}:
                require(hint, table.get(field.name, {}), problems, path)
        elif field.name not in table and _needed(field) and not problems.names(path):
            problems.add(path, "nothing", f"{_described(hint, field.name)}; it is required")


def build(kind: type[T], table: Table) -> T:
    """Return the record that a complete table describes."""
    hints: Mapping[str, Any] = get_type_hints(kind)
    records = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    built: Table = {name: build(cast("type", hint), table.get(name, {})) for name, hint in records.items()}
    return kind(**{**table, **built})


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _needed(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: Any, path: str, problems: Problems) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        (inner,) = (a for a in get_args(hint) if a is not type(None))
        return None if value == "none" else _convert(inner, value, path, problems)
    if get_origin(hint) is tuple:
        return _list(get_args(hint)[0], value, path, problems)
    if dataclasses.is_dataclass(hint):
        return _record(hint, value, path, problems)
    return _scalar(hint, value, path, problems)


def _record(kind: Any, value: Any, path: str, problems: Problems) -> Any:
    if not isinstance(value, dict):
        return problems.add(path, shown(value), f"a table [{path}]")
    return read(kind, value, problems, path)


def _list(item: Any, value: Any, path: str, problems: Problems) -> Any:
    if not isinstance(value, list):
        return problems.add(path, shown(value), f"a list of {_described(item, path)}")
    items = tuple(_item(item, v, f"{path}[{i}]", problems) for i, v in enumerate(value))
    for i, found in enumerate(items):
        if found is not _WRONG and found in items[:i]:
            return problems.add(f"{path}[{i}]", f"{shown(value[i])} a second time", "each entry once")
    return _WRONG if any(i is _WRONG for i in items) else items


def _item(hint: Any, value: Any, path: str, problems: Problems) -> Any:
    converted = _convert(hint, value, path, problems)
    if converted is _WRONG or not dataclasses.is_dataclass(hint):
        return converted
    kind: Any = hint
    require(kind, converted, problems, path)
    return _WRONG if problems.names(path) else build(kind, converted)


def _scalar(hint: Any, value: Any, path: str, problems: Problems) -> Any:
    name = path.rpartition(".")[2].partition("[")[0]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _member(hint, value, path, problems)
    if name.endswith("_bytes") and isinstance(value, str):
        return _size(value, path, problems)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        return problems.add(path, shown(value), _described(hint, name))
    return _CHECKS[hint](name, value, path, problems)


def _member(kind: type[Enum], value: Any, path: str, problems: Problems) -> Any:
    words = {str(m.value): m for m in kind}
    return words[value] if value in words else problems.unknown(path, str(value), words, what=shown(value))


def _size(value: str, path: str, problems: Problems) -> Any:
    found = _SIZE.fullmatch(value.strip())
    size = float(found[1]) * UNITS[found[2]] if found else 0.0
    if size <= 0 or not size.is_integer():
        return problems.add(path, shown(value), _SIZE_ALLOWED)
    return int(size)


def _text(name: str, value: str, path: str, problems: Problems) -> Any:
    words = VOCABULARIES.get(name)
    if words is not None and value not in words:
        return problems.unknown(path, value, words)
    return value if value.strip() else problems.add(path, '""', "text")


def _number(name: str, value: float, path: str, problems: Problems) -> Any:
    if not 0 < value < float("inf"):
        return problems.add(path, shown(value), f"{_described(type(value), name)} greater than zero")
    return value


def _flag(name: str, value: bool, path: str, problems: Problems) -> Any:  # noqa: ARG001, FBT001  (one signature for all checks)
    return value


_CHECKS: Mapping[type, Callable[[str, Any, str, Problems], Any]] = {
    str: _text,
    int: _number,
    float: _number,
    bool: _flag,
}


def _described(hint: Any, name: str) -> str:
    """Return in words what a field of this type takes."""
    if get_origin(hint) in (Union, types.UnionType):
        return _described(get_args(hint)[0], name) + ' or "none"'
    if get_origin(hint) is tuple:
        return f"a list of {_described(get_args(hint)[0], name)}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(str(m.value) for m in hint)
    if name.endswith("_bytes"):
        return _SIZE_ALLOWED
    if name in VOCABULARIES:
        return "words among " + ", ".join(VOCABULARIES[name])
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint, "a table")
