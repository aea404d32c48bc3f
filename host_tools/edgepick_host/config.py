"""Reads the host's settings: default < file < environment < flag.

- The file is ``--config``, ``$EDGEPICK_CONFIG``, ``./edgepick.toml`` or ``~/.config/edgepick/host.toml``,
  whichever is named or found first. A relative path in it is relative to the file.
- Every problem of every layer is reported at once, each naming where, key, found and allowed.
- A secret is never printed: a wrong URL is described, not repeated.
"""

import difflib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepick_host.core.retention import LEAST_SECONDS
from edgepick_host.core.settings import (
    DEFAULT_DATABASE,
    DEFAULT_FLEET,
    DEFAULT_KEYS,
    BrokerAddress,
    BrokerSettings,
    HostSettings,
    SignerSettings,
    parse_broker_url,
    parse_duration,
)
from edgepick_host.errors import ConfigError
from edgepick_wire.errors import BadNameError
from edgepick_wire.ids import check_name

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - exercised on 3.10 only
    import tomli as tomllib

LOCAL_FILE = "edgepick.toml"
USER_FILE = "~/.config/edgepick/host.toml"
CONFIG_VARIABLE = "EDGEPICK_CONFIG"
DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
MAX_KEEPALIVE_SECONDS = 65535
"""MQTT 3.1.1, section 3.1.2.10: the keep-alive is two bytes of seconds."""

KEYS: Mapping[str, type] = {
    "fleet": str,
    "database": str,
    "keys": str,
    "root_document": str,
    "profiles": list,
    "security_epoch": int,
    "keep_reports": str,
    "broker.url": str,
    "broker.password_file": str,
    "broker.ca_file": str,
    "broker.cert_file": str,
    "broker.key_file": str,
    "broker.keepalive_seconds": int,
    "signers.release": str,
    "signers.campaign": str,
    "signers.release_cosigners": list,
    "signers.campaign_cosigners": list,
}
"""Every key of the file, sections with a dot, and the type of its value."""

VARIABLES: Mapping[str, str] = {
    "EDGEPICK_FLEET": "fleet",
    "EDGEPICK_DATABASE": "database",
    "EDGEPICK_KEYS": "keys",
    "EDGEPICK_PROFILES": "profiles",
    "EDGEPICK_KEEP_REPORTS": "keep_reports",
    "EDGEPICK_BROKER": "broker.url",
    "EDGEPICK_BROKER_PASSWORD_FILE": "broker.password_file",
    "EDGEPICK_BROKER_CA_FILE": "broker.ca_file",
}
"""Environment variable -> the key that it sets; ``EDGEPICK_PROFILES`` is a list with ``:`` between."""

PASSWORD_VARIABLE = "EDGEPICK_BROKER_PASSWORD"  # noqa: S105 - the name of a variable, not a password

WORDS = {str: "a string", int: "a whole number", list: "a list of strings"}


@dataclass(frozen=True, slots=True)
class Value:
    """A value and where it was found; ``folder`` is what its relative paths begin at."""

    value: Any
    where: str
    folder: Path = Path()


@dataclass
class Reading:
    """The values found so far, and everything that is wrong with them."""

    values: dict[str, Value] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def problem(self, where: str, key: str, found: str, allowed: str) -> None:
        """Note one problem."""
        self.problems.append(f"{where}: {key}: {found}; allowed: {allowed}")

    def text(self, key: str, default: str) -> str:
        """Return a string, or its default."""
        return str(self.values[key].value) if key in self.values else default

    def path(self, key: str, default: str | None = None) -> str | None:
        """Return a path, relative to where it was named."""
        found = self.values.get(key)
        return default if found is None else _placed(found.folder, str(found.value))


def read_settings(
    config: Path | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path = Path(),
    home: Path | None = None,
) -> HostSettings:
    """Return the host's settings.

    Args:
        config: The file that ``--config`` names.
        flags: Values of the command line by key (``broker.url``); ``None`` and empty ones are left out.
        environment: Instead of the process's, for tests.
        folder: Instead of the working directory, for tests.
        home: Instead of the user's home, for tests.

    Raises:
        ConfigError: One line per problem.
    """
    environment = os.environ if environment is None else environment
    path = find_file(config, environment, folder, home)
    reading = Reading()
    if path is not None:
        _read_file(path, reading)
    for variable, key in VARIABLES.items():
        if environment.get(variable):
            value = environment[variable].split(os.pathsep) if KEYS[key] is list else environment[variable]
            reading.values[key] = Value(value, f"environment variable {variable}", folder)
    for key, value in (flags or {}).items():
        if value not in (None, (), ""):
            reading.values[key] = Value(value, f"--{key.partition('.')[0]}", folder)
    settings = _settings(reading, environment, folder, path)
    if reading.problems:
        raise ConfigError("\n".join(reading.problems), hint="docs/operator.md lists every key.")
    return settings


def find_file(
    config: Path | None, environment: Mapping[str, str], folder: Path = Path(), home: Path | None = None
) -> Path | None:
    """Return the configuration file, or ``None`` where none is named and none is found.

    Raises:
        ConfigError: A file that was named does not exist.
    """
    named = config or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    if named is not None:
        if not named.is_file():
            who = "--config" if config else CONFIG_VARIABLE
            raise ConfigError(f"{named}: no such file (named by {who})", hint="`edgepick keys init` writes one.")
        return named
    user = home / USER_FILE.removeprefix("~/") if home else Path(USER_FILE).expanduser()
    return next((path for path in (folder / LOCAL_FILE, user) if path.is_file()), None)


def _read_file(path: Path, reading: Reading) -> None:
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}", hint="Mend the line that is named.") from error
    sections = {key.partition(".")[0] for key in KEYS if "." in key}
    for name, value in document.items():
        if name in sections and isinstance(value, dict):
            for key, inner in value.items():
                _take(f"{name}.{key}", inner, path, reading)
        else:
            _take(name, value, path, reading)


def _take(key: str, value: Any, path: Path, reading: Reading) -> None:
    if key not in KEYS:
        close = difflib.get_close_matches(key, KEYS, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        reading.problem(str(path), key, f"unknown key{meant}", ", ".join(KEYS))
    elif type(value) is not KEYS[key] or (isinstance(value, list) and not all(isinstance(v, str) for v in value)):
        reading.problem(str(path), key, f"found {value!r}"[:80], WORDS[KEYS[key]])
    else:
        reading.values[key] = Value(value, str(path), path.parent)


def _settings(reading: Reading, environment: Mapping[str, str], folder: Path, path: Path | None) -> HostSettings:
    keys = reading.path("keys") or _placed(path.parent if path else folder, DEFAULT_KEYS)
    return HostSettings(
        fleet=_fleet(reading),
        broker=_broker(reading, environment),
        database=_database(reading, path.parent if path else folder),
        root_document=reading.path("root_document") or str(Path(keys) / "root.signed"),
        signers=SignerSettings(
            release=_signer(reading, "signers.release", keys),
            campaign=_signer(reading, "signers.campaign", keys),
            release_cosigners=_cosigners(reading, "signers.release_cosigners"),
            campaign_cosigners=_cosigners(reading, "signers.campaign_cosigners"),
        ),
        profile_dirs=_profile_dirs(reading),
        security_epoch=_whole(reading, "security_epoch", default=0, least=0, most=2**31 - 1),
        keep_reports_seconds=_kept(reading),
        source=str(path) if path else None,
    )


def _fleet(reading: Reading) -> str:
    fleet = reading.text("fleet", DEFAULT_FLEET)
    try:
        return check_name("fleet", fleet)
    except BadNameError:
        allowed = "1 to 64 of a-z 0-9 . _ - after a letter or digit"
        reading.problem(reading.values["fleet"].where, "fleet", f"found {fleet!r}", allowed)
        return DEFAULT_FLEET


def _broker(reading: Reading, environment: Mapping[str, str]) -> BrokerSettings:
    address = _address(reading)
    password = environment.get(PASSWORD_VARIABLE) or address.password or _password_in_file(reading)
    return BrokerSettings(
        host=address.host,
        port=address.port,
        tls=address.tls,
        username=address.username,
        password=password,
        ca_file=reading.path("broker.ca_file"),
        cert_file=reading.path("broker.cert_file"),
        key_file=reading.path("broker.key_file"),
        keepalive_seconds=_whole(reading, "broker.keepalive_seconds", default=30, least=5, most=MAX_KEEPALIVE_SECONDS),
    )


def _address(reading: Reading) -> BrokerAddress:
    try:
        return parse_broker_url(reading.text("broker.url", DEFAULT_BROKER))
    except ValueError as error:
        allowed = "mqtt://[user[:password]@]host[:port], or mqtts:// for TLS"
        reading.problem(reading.values["broker.url"].where, "broker.url", str(error), allowed)
        return parse_broker_url(DEFAULT_BROKER)


def _password_in_file(reading: Reading) -> str | None:
    path = reading.path("broker.password_file")
    if path is None:
        return None
    try:
        return Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        found = f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}"
        reading.problem(reading.values["broker.password_file"].where, "broker.password_file", found, "a file to read")
        return None


def _database(reading: Reading, folder: Path) -> str:
    found = reading.values.get("database")
    if found is None:
        return _placed(folder, DEFAULT_DATABASE)
    text = str(found.value)
    return text if "://" in text else _placed(found.folder, text)


def _signer(reading: Reading, key: str, keys: str) -> str:
    found = reading.values.get(key)
    if found is None:
        return f"file:{Path(keys) / key.partition('.')[2]}.pem"
    return _key_address(reading, key, found, str(found.value))


def _cosigners(reading: Reading, key: str) -> tuple[str, ...]:
    found = reading.values.get(key)
    return tuple(_key_address(reading, key, found, str(address)) for address in found.value) if found else ()


def _key_address(reading: Reading, key: str, found: Value, address: str) -> str:
    scheme, colon, place = address.partition(":")
    if not colon or not place:
        reading.problem(found.where, key, f"found {address[:20]!r}", "file:PATH, env:VARIABLE or exec:COMMAND")
    return f"file:{_placed(found.folder, place)}" if scheme == "file" else address


def _profile_dirs(reading: Reading) -> tuple[str, ...]:
    found = reading.values.get("profiles")
    return tuple(_placed(found.folder, str(p)) for p in found.value) if found else ()


def _kept(reading: Reading) -> float | None:
    found = reading.values.get("keep_reports")
    if found is None:
        return None
    try:
        seconds = parse_duration(str(found.value))
    except ValueError:
        seconds = 0.0
    if seconds < LEAST_SECONDS:
        reading.problem(found.where, "keep_reports", f"found {found.value!r}", "a duration of at least 1d, such as 90d")
    return seconds


def _whole(reading: Reading, key: str, *, default: int, least: int, most: int) -> int:
    found = reading.values.get(key)
    if found is None:
        return default
    if not least <= found.value <= most:
        reading.problem(found.where, key, f"found {found.value}", f"{least} to {most}")
        return default
    return int(found.value)


def _placed(folder: Path, place: str) -> str:
    return str(folder / os.path.expanduser(place))  # noqa: PTH111 - Path.expanduser fails for a user that is none
