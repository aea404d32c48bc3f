"""Frozen dataclasses to canonical JSON and back, strictly and within limits.

- Encoding is canonical: sorted keys, no spaces, UTF-8, no NaN or infinity.
- Decoding ignores unknown fields (mixed versions in a fleet), refuses wrong types, and names the
  path of the field that is wrong.
- Supported field types: ``str int float bool``, enums of strings, dataclasses, ``X | None``,
  ``tuple[X, ...]``, ``Mapping[str, X]``.
"""

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from contextvars import ContextVar
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgepick_wire import limits
from edgepick_wire.errors import LimitError, MalformedError

T = TypeVar("T")

_max_items: ContextVar[int] = ContextVar("max_items", default=limits.MAX_ITEMS)
"""Most entries of a list while a document is read; a message never has another value."""


def encode(value: object) -> bytes:
    """Return ``value`` (a dataclass of this protocol) as canonical JSON.

    Raises:
        LimitError: The result is larger than a payload may be.
        MalformedError: A number in it is not finite.
    """
    data = encode_document(value)
    if len(data) > limits.MAX_PAYLOAD_BYTES:
        raise LimitError(f"{type(value).__name__} is {len(data)} bytes; at most {limits.MAX_PAYLOAD_BYTES} may travel")
    return data


def encode_document(value: object, *, indent: int | None = None) -> bytes:
    """Return ``value`` as JSON for a file or a terminal, without the size limit of the wire.

    Raises:
        MalformedError: A number in it is not finite, or a text is not Unicode (half a surrogate pair).
    """
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        text = json.dumps(
            plain(value), sort_keys=True, separators=separators, ensure_ascii=False, allow_nan=False, indent=indent
        )
        return text.encode()
    except ValueError as error:
        raise MalformedError(f"{type(value).__name__} holds a value that JSON cannot carry: {error}") from error


def plain(value: object) -> Any:
    """Return ``value`` as dictionaries, lists and scalars, ready for ``json``."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value


def decode(kind: type[T], data: bytes | bytearray | memoryview) -> T:
    """Return the message of type ``kind`` that ``data`` holds.

    Raises:
        LimitError: Too large, too deep, too long.
        MalformedError: Not JSON, or a field is missing or of the wrong type; the path is named.
    """
    if len(data) > limits.MAX_PAYLOAD_BYTES:
        raise LimitError(f"{kind.__name__}: {len(data)} bytes; at most {limits.MAX_PAYLOAD_BYTES} are accepted")
    return decode_document(kind, bytes(data))


def decode_document(kind: type[T], data: bytes, *, max_items: int = limits.MAX_ITEMS) -> T:
    """Return the ``kind`` that a file holds: as :func:`decode`, without the size limit of the wire.

    Args:
        kind: What it holds.
        data: The file.
        max_items: Most entries in one list or object; more for what this program has written itself.
    """
    before = _max_items.set(max_items)
    try:
        return from_plain(kind, parse_json(data, _title(kind)))
    finally:
        _max_items.reset(before)


def parse_json(data: bytes, what: str = "message") -> Any:
    """Return the JSON value in ``data``; duplicate keys and NaN are refused.

    Raises:
        MalformedError: Not UTF-8 JSON.
        LimitError: Nested too deep for the parser.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError as error:
        raise LimitError(f"{what}: nested too deep") from error
    except ValueError as error:
        raise MalformedError(f"{what} is not JSON: {error}") from error


def from_plain(kind: type[T], value: Any) -> T:
    """Return the ``kind`` described by parsed JSON ``value``."""
    return cast("T", _convert(kind, value, _title(kind), 0))


def _title(kind: type[Any]) -> str:
    """Return what a message calls a class; people need not know that one is private."""
    return kind.__name__.lstrip("_")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object names one key twice")
    return result


def _convert(kind: Any, value: Any, path: str, depth: int) -> Any:
    if depth > limits.MAX_DEPTH:
        raise LimitError(f"{path}: nested deeper than {limits.MAX_DEPTH}")
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind, value, path, depth)
    if origin is tuple:
        return _tuple(get_args(kind)[0], value, path, depth)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(get_args(kind)[1], value, path, depth)
    if dataclasses.is_dataclass(kind):
        return _dataclass(cast("type", kind), value, path, depth)
    return _scalar(kind, value, path)


def _optional(kind: Any, value: Any, path: str, depth: int) -> Any:
    if value is None:
        return None
    (inner,) = (a for a in get_args(kind) if a is not type(None))
    return _convert(inner, value, path, depth)


def _tuple(item: Any, value: Any, path: str, depth: int) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise MalformedError(f"{path}: expected a list, found {_name(value)}")
    _check_length(value, path)
    return tuple(_convert(item, v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value))


def _mapping(item: Any, value: Any, path: str, depth: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedError(f"{path}: expected an object, found {_name(value)}")
    _check_length(value, path)
    return {_text(k, path): _convert(item, v, f"{path}.{k[:64]}", depth + 1) for k, v in value.items()}


def _check_length(value: list[Any] | dict[str, Any], path: str) -> None:
    most = _max_items.get()
    if len(value) > most:
        raise LimitError(f"{path}: {len(value)} entries; at most {most} are accepted")


@cache
def _fields(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    hints = get_type_hints(kind)
    return tuple(
        (f.name, hints[f.name], f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
        for f in dataclasses.fields(kind)
    )


def _dataclass(kind: type, value: Any, path: str, depth: int) -> Any:
    if not isinstance(value, dict):
        raise MalformedError(f"{path}: expected an object, found {_name(value)}")
    _check_length(value, path)
    found = {}
    for name, hint, required in _fields(kind):
        if name in value:
            found[name] = _convert(hint, value[name], f"{path}.{name}", depth + 1)
        elif required:
            raise MalformedError(f"{path}.{name}: missing")
    try:
        return kind(**found)
    except MalformedError as error:
        raise MalformedError(f"{path}: {error}") from error


def _scalar(kind: Any, value: Any, path: str) -> Any:
    kind = getattr(kind, "__supertype__", kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _member(kind, value, path)
    if kind is float and type(value) is int:
        return _whole(value, path)
    if type(value) is not kind:
        raise MalformedError(f"{path}: expected {getattr(kind, '__name__', kind)}, found {_name(value)}")
    if kind is str:
        return _text(value, path)
    if kind is float and not math.isfinite(value):
        raise MalformedError(f"{path}: {value} is not a finite number")
    return value


def _whole(value: int, path: str) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise MalformedError(f"{path}: a number of {value.bit_length()} bits is too large") from error


def _text(value: str, path: str) -> str:
    if len(value) > limits.MAX_TEXT_CHARACTERS:
        raise LimitError(f"{path}: {len(value)} characters; at most {limits.MAX_TEXT_CHARACTERS} are accepted")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise MalformedError(f"{path}: half a surrogate pair, which is no Unicode text") from error
    return value


def _member(kind: type[Enum], value: Any, path: str) -> Enum:
    try:
        return kind(value)
    except ValueError as error:
        allowed = ", ".join(str(m.value) for m in kind)
        raise MalformedError(f"{path}: {str(value)[:64]!r} is not one of {allowed}") from error


def _name(value: Any) -> str:
    return {dict: "an object", list: "a list", type(None): "null"}.get(type(value), f"{str(value)[:40]!r}")
