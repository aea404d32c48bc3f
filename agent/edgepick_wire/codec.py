"""Frozen dataclasses to canonical JSON and back, strictly and within limits.

- Encoding is canonical: sorted keys, no spaces, UTF-8, no NaN or infinity.
- Decoding ignores unknown fields (mixed versions in a fleet), refuses wrong types, and names the
  path of the field that is wrong, also of one that holds NaN.
- Supported field types: ``str int float bool``, enums of strings, dataclasses, ``X | None``,
  ``tuple[X, ...]``, ``Mapping[str, X]``.
"""

import dataclasses
import json
import math
import types
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgepick_wire import limits
from edgepick_wire.errors import BadNameError, LimitError, MalformedError, WireError

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
    kind: Any = type(value)
    return value if kind in _AS_IT_IS else _shape(kind)(value)


_AS_IT_IS = frozenset({str, int, float, bool, type(None)})

Convert = Callable[[Any], Any]


@cache
def _shape(kind: type) -> Convert:
    """Return what makes values of ``kind`` ready for ``json``: found once per type, because fleets speak a lot."""
    if issubclass(kind, Enum):
        return lambda value: value.value
    if dataclasses.is_dataclass(kind):
        names = tuple(f.name for f in dataclasses.fields(kind))
        return lambda value: {name: plain(getattr(value, name)) for name in names}
    if issubclass(kind, Mapping):
        return lambda value: {str(k): plain(v) for k, v in value.items()}
    if issubclass(kind, tuple | list):
        return lambda value: [plain(v) for v in value]
    return lambda value: value


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
    except _ConstantError as error:
        raise _where_constant(kind, data) or error from error.__cause__
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
        found = _ConstantError if isinstance(error, _NotANumberError) else MalformedError
        raise found(f"{what} is not JSON: {error}") from error


def from_plain(kind: type[T], value: Any) -> T:
    """Return the ``kind`` described by parsed JSON ``value``."""
    try:
        return cast("T", _reader(cast("Any", kind))(value, 0))
    except _WrongError as wrong:
        raise wrong.error(_title(kind)) from wrong.__cause__


def _title(kind: type[Any]) -> str:
    """Return what a message calls a class; people need not know that one is private."""
    return kind.__name__.lstrip("_")


class _NotANumberError(ValueError):
    """NaN or an infinity stands where JSON has a number."""


class _ConstantError(MalformedError):
    """The same, as the error of the document."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Constant:
    """NaN or an infinity in a document that is read once more, only to say where it is."""

    name: str

    def __str__(self) -> str:
        return f"{self.name} is not a JSON number"


def _refuse_constant(name: str) -> Any:
    raise _NotANumberError(str(_Constant(name)))


def _where_constant(kind: type[Any], data: bytes) -> WireError | None:
    """Return an error that names the field that is no number; ``None`` if none that this program reads is."""
    try:
        from_plain(kind, json.loads(data.decode("utf-8"), parse_constant=_Constant, object_pairs_hook=_unique))
    except WireError as error:
        return error
    except (ValueError, RecursionError):
        return None
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object names one key twice")
    return result


class _WrongError(Exception):
    """Something in a document is wrong; where, is put together on the way out, so that right documents cost nothing."""

    def __init__(self, kind: type[WireError], text: str, where: str = "") -> None:
        super().__init__(text)
        self._kind = kind
        self._text = text
        self._where = where

    def inside(self, where: str) -> "_WrongError":
        """Return the same, found inside of ``where``."""
        self._where = where + self._where
        return self

    def error(self, title: str) -> WireError:
        """Return the error for a person."""
        return self._kind(f"{title}{self._where}: {self._text}")


Read = Callable[[Any, int], Any]
"""``(parsed JSON, depth) -> value`` of one type."""


@cache
def _reader(kind: Any) -> Read:
    """Return what reads a ``kind``: found once per type."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind)
    if origin is tuple:
        return _tuple(get_args(kind)[0])
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(get_args(kind)[1])
    if dataclasses.is_dataclass(kind):
        return _dataclass(cast("type", kind))
    return _scalar(getattr(kind, "__supertype__", kind))


def _check_depth(depth: int) -> None:
    if depth > limits.MAX_DEPTH:
        raise _WrongError(LimitError, f"nested deeper than {limits.MAX_DEPTH}")


def _optional(kind: Any) -> Read:
    (inner,) = (a for a in get_args(kind) if a is not type(None))
    read = _reader(inner)

    def optional(value: Any, depth: int) -> Any:
        return None if value is None else read(value, depth)

    return optional


def _tuple(item: Any) -> Read:
    read = _reader(item)

    def entries(value: Any, depth: int) -> tuple[Any, ...]:
        _check_depth(depth)
        if not isinstance(value, list):
            raise _WrongError(MalformedError, f"expected a list, found {_name(value)}")
        _check_length(value)
        found: list[Any] = []
        try:
            for entry in value:
                found.append(read(entry, depth + 1))  # noqa: PERF401 - its length says where an entry is wrong
        except _WrongError as wrong:
            raise wrong.inside(f"[{len(found)}]") from wrong.__cause__
        return tuple(found)

    return entries


def _mapping(item: Any) -> Read:
    read = _reader(item)

    def entries(value: Any, depth: int) -> dict[str, Any]:
        _check_depth(depth)
        if not isinstance(value, dict):
            raise _WrongError(MalformedError, f"expected an object, found {_name(value)}")
        _check_length(value)
        found, name = {}, ""
        for key, entry in value.items():
            name = _text(key)
            try:
                found[name] = read(entry, depth + 1)
            except _WrongError as wrong:
                raise wrong.inside(f".{key[:64]}") from wrong.__cause__
        return found

    return entries


def _check_length(value: list[Any] | dict[str, Any]) -> None:
    most = _max_items.get()
    if len(value) > most:
        raise _WrongError(LimitError, f"{len(value)} entries; at most {most} are accepted")


@cache
def _fields(kind: type) -> tuple[tuple[str, Read, bool], ...]:
    hints = get_type_hints(kind)
    return tuple(
        (f.name, _reader(hints[f.name]), f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING)
        for f in dataclasses.fields(kind)
    )


def _dataclass(kind: type) -> Read:
    def fields(value: Any, depth: int) -> Any:
        _check_depth(depth)
        if not isinstance(value, dict):
            raise _WrongError(MalformedError, f"expected an object, found {_name(value)}")
        _check_length(value)
        found, name = {}, ""
        try:
            for name, read, required in _fields(kind):
                if name in value:
                    found[name] = read(value[name], depth + 1)
                elif required:
                    raise _WrongError(MalformedError, "missing")  # noqa: TRY301 - told where like every other
        except _WrongError as wrong:
            raise wrong.inside(f".{name}") from wrong.__cause__
        try:
            return kind(**found)
        except (MalformedError, BadNameError) as error:
            raise _WrongError(type(error), str(error)) from error

    return fields


def _scalar(kind: Any) -> Read:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _member(kind)
    if kind is float:
        return _float
    if kind is int:
        return _integer
    return _string if kind is str else _exactly(kind)


def _exactly(kind: Any) -> Read:
    def scalar(value: Any, depth: int) -> Any:
        _check_depth(depth)
        if type(value) is not kind:
            raise _not_a(getattr(kind, "__name__", kind), value)
        return value

    return scalar


def _integer(value: Any, depth: int) -> int:
    _check_depth(depth)
    if type(value) is not int:
        raise _not_a("int", value)
    if not -limits.MAX_INTEGER <= value <= limits.MAX_INTEGER:
        raise _WrongError(LimitError, f"a number of {value.bit_length()} bits; at most 63 and a sign are accepted")
    return value


def _string(value: Any, depth: int) -> str:
    _check_depth(depth)
    if type(value) is not str:
        raise _not_a("str", value)
    return _text(value)


def _float(value: Any, depth: int) -> float:
    _check_depth(depth)
    if type(value) is int:
        return _whole(value)
    if type(value) is not float:
        raise _not_a("float", value)
    if not math.isfinite(value):
        raise _WrongError(MalformedError, f"{value} is not a finite number")
    return value


def _not_a(kind: object, value: Any) -> _WrongError:
    if isinstance(value, _Constant):
        return _WrongError(MalformedError, str(value))
    return _WrongError(MalformedError, f"expected {kind}, found {_name(value)}")


def _whole(value: int) -> float:
    try:
        return float(value)
    except OverflowError as error:
        raise _WrongError(MalformedError, f"a number of {value.bit_length()} bits is too large") from error


def _text(value: str) -> str:
    if len(value) > limits.MAX_TEXT_CHARACTERS:
        raise _WrongError(LimitError, f"{len(value)} characters; at most {limits.MAX_TEXT_CHARACTERS} are accepted")
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _WrongError(MalformedError, "half a surrogate pair, which is no Unicode text") from error
    return value


def _member(kind: type[Enum]) -> Read:
    known = {m.value: m for m in kind}

    def member(value: Any, depth: int) -> Enum:
        _check_depth(depth)
        found = known.get(value) if isinstance(value, str) else None
        if found is None:
            allowed = ", ".join(str(m.value) for m in kind)
            raise _WrongError(MalformedError, f"{str(value)[:64]!r} is not one of {allowed}")
        return found

    return member


def _name(value: Any) -> str:
    return {dict: "an object", list: "a list", type(None): "null"}.get(type(value), f"{str(value)[:40]!r}")
