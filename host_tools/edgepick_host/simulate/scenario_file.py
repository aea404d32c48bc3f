"""Reads a scenario from TOML: every unknown key is named at once, and what may stand there."""

import difflib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from edgepick_host.errors import ConfigError
from edgepick_host.simulate.scenario import Scenario
from edgepick_wire import codec
from edgepick_wire.errors import WireError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - exercised on 3.10 only
    import tomli as tomllib

HINT = "docs/simulate.md lists every key."


def read_scenario(path: Path) -> Scenario:
    """Return the scenario in a TOML file.

    Raises:
        ConfigError: Not readable, not TOML, an unknown key, or a value that is not allowed.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}", hint=HINT) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}", hint="Mend the line that is named.") from error
    unknown = list(_unknown(Scenario, document, ""))
    if unknown:
        raise ConfigError("\n".join(f"{path}: {line}" for line in unknown), hint=HINT)
    try:
        return codec.from_plain(Scenario, document)
    except WireError as error:
        raise ConfigError(f"{path}: {error}", hint=HINT) from error


def _unknown(kind: type, table: Mapping[str, Any], place: str) -> Iterator[str]:
    """Yield every key that is no field of ``kind``, in it and below."""
    hints = get_type_hints(kind)
    allowed = [field.name for field in fields(kind)]
    for key, value in table.items():
        if key in allowed:
            yield from _below(hints[key], value, f"{place}{key}")
        else:
            close = difflib.get_close_matches(key, allowed, n=1)
            meant = f" (did you mean {close[0]!r}?)" if close else ""
            yield f"{place}{key}: unknown key{meant}; allowed: {', '.join(allowed)}"


def _below(hint: Any, value: Any, place: str) -> Iterator[str]:
    inner = [a for a in get_args(hint) if isinstance(a, type) and is_dataclass(a)]
    if isinstance(hint, type) and is_dataclass(hint) and isinstance(value, dict):
        yield from _unknown(hint, value, f"{place}.")
    elif inner and isinstance(value, list):
        for number, item in enumerate(value):
            if isinstance(item, dict):
                yield from _unknown(inner[0], item, f"{place}[{number}].")
    elif inner and isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, dict):
                yield from _unknown(inner[0], item, f"{place}.{name}.")
