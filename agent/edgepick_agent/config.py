"""``agent.toml`` to :class:`AgentSettings`: every problem in one message, and where each value came from.

- Precedence: default < file < environment (the variables of :data:`ENVIRONMENT`).
- A relative path is relative to the folder of the file, wherever the value came from.
- Keys are exactly the fields of ``core/settings.py``: scalars on top, one table per nested record.
"""

import dataclasses
import os
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from edgepick_agent.core import redaction
from edgepick_agent.core.rules import FILES, NEEDED, NEEDS, PATHS, RULES, SECRETS, TLS_FILES, Rule
from edgepick_agent.core.settings import AgentSettings, BrokerSettings, FetchSettings, PowerSettings, RunnerSettings
from edgepick_agent.errors import ConfigError
from edgepick_wire.enums import StrEnum

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - exercised on 3.10 only
    import tomli as tomllib

SECTIONS: Mapping[str, type[Any]] = {
    "broker": BrokerSettings,
    "fetch": FetchSettings,
    "runner": RunnerSettings,
    "power": PowerSettings,
}
"""Tables of the file that are records of their own."""

ENVIRONMENT = {
    "EDGEPICK_AGENT_DEVICE": "device",
    "EDGEPICK_AGENT_FLEET": "fleet",
    "EDGEPICK_AGENT_PROFILE": "profile",
    "EDGEPICK_AGENT_STATE_DIR": "state_dir",
    "EDGEPICK_AGENT_ROOT_DOCUMENT": "root_document",
    "EDGEPICK_AGENT_STAND_IN": "stand_in",
    "EDGEPICK_AGENT_BROKER_HOST": "broker.host",
    "EDGEPICK_AGENT_BROKER_PORT": "broker.port",
    "EDGEPICK_AGENT_BROKER_USERNAME": "broker.username",
    "EDGEPICK_AGENT_BROKER_PASSWORD_FILE": "broker.password_file",
    "EDGEPICK_AGENT_RUNNER_PYTHON": "runner.python",
}
"""Environment variable -> the key that it overrides."""

PREFIX = "EDGEPICK_AGENT_"
NOT_SETTINGS = frozenset({"EDGEPICK_AGENT_CONFIG", "EDGEPICK_AGENT_VERBOSE"})
"""Variables of the command line itself."""


class Origin(StrEnum):
    """Where a value came from; later ones win."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong with one key: what was found, what is allowed.

    Attributes:
        found: How ``text`` quotes the wrong value; empty if it quotes none.
    """

    key: str
    text: str
    found: str = ""

    def __str__(self) -> str:
        return f"{self.key}: {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration as read.

    Attributes:
        settings: ``None`` if ``problems`` is not empty.
        origins: Flat key ("broker.port") -> where its value came from.
        problems: Wrong or missing values.
        missing_files: Files that are named but cannot be read; the settings are complete without them.
        warnings: Allowed, but hardly meant.
        secrets: Texts in it that are for nobody else, as they stand in the messages about it.
    """

    path: Path
    settings: AgentSettings | None
    origins: Mapping[str, Origin] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    missing_files: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    secrets: frozenset[str] = frozenset()


def load_settings(path: Path, environ: Mapping[str, str], *, files: bool = True) -> AgentSettings:
    """Return the valid settings in ``path``, overridden by ``environ``.

    Args:
        path: The TOML file.
        environ: Usually ``os.environ``.
        files: Whether files that the settings name must be readable too.

    Raises:
        ConfigError: Lists every problem, one per line.
    """
    return require_settings(read_config(path, environ), files=files)


def require_settings(loaded: Loaded, *, files: bool = True) -> AgentSettings:
    """Return the settings of a configuration that has no problem.

    Raises:
        ConfigError: Lists every problem, one per line.
    """
    problems = loaded.problems + (loaded.missing_files if files else ())
    if problems or loaded.settings is None:
        raise ConfigError(
            describe(loaded.path, problems),
            hint=f"Mend the file, then try: edgepick-agent config check --config {loaded.path}",
        )
    return loaded.settings


def describe(path: Path, problems: Iterable[Problem]) -> str:
    """Return the problems as one message, one per line, each naming file and key."""
    lines = [f"{path}: {problem}" for problem in problems]
    return lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} problems in the configuration", *lines])


def read_config(path: Path, environ: Mapping[str, str]) -> Loaded:
    """Return what the file and the environment say, with every problem found.

    Raises:
        ConfigError: The file cannot be read, or is not TOML.
    """
    reader = _Reader(path=path, base=path.absolute().parent)
    reader.take_file(_flatten(_parse(path), reader))
    reader.take_environment(environ)
    reader.require()
    reader.check()
    return reader.loaded()


def values_of(settings: AgentSettings) -> dict[str, Any]:
    """Return the settings as flat keys and plain values, in the order of the file."""
    return {key: getattr(_owner(settings, key), key.rpartition(".")[2]) for key in schema()}


def _owner(settings: AgentSettings, key: str) -> Any:
    section = key.rpartition(".")[0]
    return getattr(settings, section) if section else settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a key of the file takes: a type and a default, or ``MISSING`` for a needed one."""

    hint: Any
    default: Any


@cache
def schema() -> Mapping[str, Key]:
    """Return every flat key with what it takes, from the dataclasses of ``core/settings.py``."""
    keys = {n: k for n, k in _keys_of(AgentSettings).items() if n not in SECTIONS}
    for section, kind in SECTIONS.items():
        keys |= {f"{section}.{name}": key for name, key in _keys_of(kind).items()}
    return keys


def _keys_of(kind: type[Any]) -> dict[str, Key]:
    hints = get_type_hints(kind)
    return {f.name: Key(hint=hints[f.name], default=_default(f)) for f in dataclasses.fields(kind)}


def _default(item: "dataclasses.Field[Any]") -> Any:
    return item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file", hint=f"Write one with: edgepick-agent init --out {path}, or name another: --config"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", hint="Read it as root, or mend its owner and mode."
        ) from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ConfigError(f"{path}: not TOML: {error}", hint='Text needs quotes: key = "text"') from error


def _flatten(document: Mapping[str, Any], reader: "_Reader") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if name not in SECTIONS:
            flat[name] = value
        elif isinstance(value, dict):
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            reader.refuse_value(name, value, f"expected a table: [{name}]")
    return flat


@dataclass(kw_only=True)
class _Reader:
    """Collects values and problems; one per file read."""

    path: Path
    base: Path
    given: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    missing_files: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def refuse(self, key: str, text: str) -> None:
        self.problems.append(Problem(key=self._where(key), text=text))

    def refuse_value(self, key: str, value: Any, instead: str) -> None:
        found = f"found {_shown(value)};"
        self.problems.append(Problem(key=self._where(key), text=f"{found} {instead}", found=found))

    def _where(self, key: str) -> str:
        if self.origins.get(key) is not Origin.ENVIRONMENT:
            return key
        return f"{key} (from {next(name for name, k in ENVIRONMENT.items() if k == key)})"

    def warn(self, key: str, text: str) -> None:
        self.warnings.append(Problem(key=key, text=text))

    def take_file(self, flat: Mapping[str, Any]) -> None:
        for key, value in flat.items():
            if key in schema():
                self._take(key, value, Origin.FILE)
            else:
                self.refuse(key, f"unknown key{_did_you_mean(key, schema())}")

    def take_environment(self, environ: Mapping[str, str]) -> None:
        for name in sorted(n for n in environ if n.startswith(PREFIX) and n not in NOT_SETTINGS):
            key = ENVIRONMENT.get(name)
            if key is None:
                self.warn(name, f"this environment variable has no effect{_did_you_mean(name, ENVIRONMENT)}")
            else:
                self._take(key, _from_text(schema()[key].hint, environ[name]), Origin.ENVIRONMENT)

    def _take(self, key: str, value: Any, origin: Origin) -> None:
        self.origins[key], self.given[key] = origin, value
        try:
            self.values[key] = _convert(schema()[key].hint, value)
        except TypeError as error:
            self.values.pop(key, None)
            self.refuse_value(key, value, f"expected {error}")

    def require(self) -> None:
        for name, key in schema().items():
            if name in self.origins:
                continue
            self.origins[name] = Origin.DEFAULT
            if key.default is dataclasses.MISSING:
                self.refuse(name, f"missing; {NEEDED.get(name, 'it has no default')}")
            else:
                self.values[name] = key.default

    def check(self) -> None:
        for key in PATHS & self.values.keys():
            self.values[key] = self._resolved(self.values[key])
        for key, rule in RULES.items():
            if self.values.get(key) is not None:
                self._apply(key, rule)
        self._check_together()
        self._check_files()

    def _apply(self, key: str, rule: Rule) -> None:
        allowed = rule(self.values[key])
        if allowed:
            self.refuse_value(key, self.values[key], f"allowed: {allowed}")

    def _resolved(self, text: str | None) -> str | None:
        if text is None:
            return None
        return os.path.normpath(self.base / os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser fails for a user that is none

    def _check_together(self) -> None:
        given = {key for key, value in self.values.items() if value is not None}
        for key, other in NEEDS:
            if key in given and other not in given:
                self.refuse(key, f"needs {other} beside it")
        if not self.values.get("broker.tls", True):
            for key in sorted(TLS_FILES & given):
                self.warn(key, "has no effect while broker.tls is false")
        python = self.values.get("runner.python")
        if python and "/" in python:
            self.values["runner.python"] = self._resolved(python)

    def _check_files(self) -> None:
        for key in sorted(FILES):
            name = self.values.get(key)
            trouble = _unreadable(Path(name)) if isinstance(name, str) else None
            if trouble:
                self.missing_files.append(Problem(key=key, text=f"{name}: {trouble}"))
            elif name and key in SECRETS and Path(name).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                self.warn(key, f"{name} can be read by others; mend it with: chmod 600 {name}")

    def loaded(self) -> Loaded:
        return Loaded(
            path=self.path,
            settings=None if self.problems else _build(self.values),
            origins={key: self.origins[key] for key in schema()},
            problems=tuple(self.problems),
            missing_files=tuple(self.missing_files),
            warnings=tuple(self.warnings),
            secrets=self._secrets(),
        )

    def _secrets(self) -> frozenset[str]:
        """Return what is secret as it was written, as it was understood, and where a problem quotes it."""
        hidden = redaction.secrets([*self.given.items(), *((key, self.values.get(key)) for key in self.given)])
        return hidden | {problem.found for problem in self.problems if problem.found}


def _build(values: Mapping[str, Any]) -> AgentSettings:
    top = {key: value for key, value in values.items() if "." not in key}
    parts = {
        section: kind(**{f.name: values[f"{section}.{f.name}"] for f in dataclasses.fields(kind)})
        for section, kind in SECTIONS.items()
    }
    return AgentSettings(**top, **parts)


def _unreadable(path: Path) -> str | None:
    """Say why a file cannot be read; ``None`` if it can."""
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return (error.strerror or "cannot be read").lower()


def _did_you_mean(found: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(found, list(known), n=1, cutoff=0.6)
    if not close:
        close = [key for key in known if key.rpartition(".")[2] == found.rpartition(".")[2]][:1]
    return f"; did you mean {_as_written(close[0])}?" if close else ""


def _as_written(key: str) -> str:
    section, _, name = key.rpartition(".")
    return f"'{name}' in [{section}]" if section else f"'{name}'"


def _from_text(hint: Any, text: str) -> Any:
    """Return an environment variable's text as TOML would give it; the text itself if it does not fit."""
    kind = _plain_type(hint)
    if kind is bool:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    if kind is int and text.lstrip("-").isdecimal():
        return int(text)
    return text


def _plain_type(hint: Any) -> Any:
    return next(a for a in get_args(hint) if a is not type(None)) if get_origin(hint) in (Union, UnionType) else hint


def _convert(hint: Any, value: Any) -> Any:
    """Return ``value`` as ``hint`` wants it.

    Raises:
        TypeError: It does not fit; the text says what was expected.
    """
    kind = _plain_type(hint)
    origin = get_origin(kind)
    if origin is tuple:
        return _texts(value)
    if origin is not None:
        return _labels(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(EXPECTED[kind])
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise TypeError('a list of texts: ["a", "b"]')
    return tuple(value)


def _labels(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise TypeError('a table of texts: [labels] and below it key = "text"')
    return dict(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


EXPECTED = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
