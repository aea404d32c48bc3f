"""What each key of ``agent.toml`` may hold, and which keys belong together; literal tables, no I/O."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from edgepick_agent.core.hours import parse_hours
from edgepick_agent.core.settings import Sandbox
from edgepick_wire.errors import BadNameError, MalformedError
from edgepick_wire.ids import check_name
from edgepick_wire.manifest import RuntimeName
from edgepick_wire.sources import check_source

SENSORS = ("hwmon-ina3221", "hwmon-ina2xx", "powercap-rapl", "rpi5-pmic", "power-supply")
"""Names that ``sensors`` may hold; a test keeps this equal to the table in ``app.py``."""

SOCKET_PATH_BYTES = 107
"""Longest path of a Unix socket on Linux: ``sun_path`` of unix(7) holds 108 bytes with the final zero."""

LONGEST_SOCKET_NAME = len("/run/0123456789ab.sock")
"""Room that the names of sockets below the state directory need."""

NEEDED = {
    "device": "give this device a name that is unique in the fleet",
    "fleet": "name the fleet that it belongs to",
    "profile": 'name the kind of device, e.g. "raspberry-pi-4" or "generic-linux"',
    "root_document": "name the file with the fleet's signed root document",
    "broker.host": 'name the broker: host = "..." in [broker]',
}

PATHS = frozenset(
    {"state_dir", "root_document", "sysfs_root"}
    | {"fetch.ca_file"}
    | {f"broker.{name}" for name in ("ca_file", "cert_file", "key_file", "password_file")}
)
TLS_FILES = frozenset({"broker.ca_file", "broker.cert_file", "broker.key_file"})
FILES = TLS_FILES | {"root_document", "broker.password_file", "fetch.ca_file"}
SECRETS = frozenset({"broker.key_file", "broker.password_file"})
NEEDS = (
    ("broker.cert_file", "broker.key_file"),
    ("broker.key_file", "broker.cert_file"),
    ("broker.password_file", "broker.username"),
    ("power.mqtt_key", "power.mqtt_topic"),
)
"""Pairs of which the first means nothing without the second."""

Rule = Callable[[Any], str | None]
"""``value -> what is allowed``, or ``None`` if the value is."""


def _name(value: str) -> str | None:
    try:
        check_name("", value)
    except BadNameError:
        return "1 to 64 of a-z 0-9 . _ - beginning with a letter or digit"
    return None


def _between(low: float, high: float) -> Rule:
    return lambda value: None if low <= value <= high else f"{low} to {high}"


def _positive(value: float) -> str | None:
    return None if value > 0 and value != float("inf") else "more than 0"


def _one_of(allowed: Iterable[str]) -> Rule:
    names = tuple(allowed)
    return lambda value: None if set(value) <= set(names) else ", ".join(names)


def _short_enough(value: str) -> str | None:
    room = SOCKET_PATH_BYTES - LONGEST_SOCKET_NAME
    return None if len(value.encode()) <= room else f"at most {room} bytes, as sockets lie in it"


def _filled(value: str) -> str | None:
    bare = value and not any(c.isspace() or c in "/@" for c in value)
    return None if bare else "a host name or address, alone"


def _hours(value: str) -> str | None:
    return None if parse_hours(value) else '"HH:MM-HH:MM", local time, e.g. "22:00-06:00"'


def _sources(value: tuple[str, ...]) -> str | None:
    known = set(value) <= {"mqtt", "https"} and len(set(value)) == len(value)
    return None if known and "mqtt" in value else '["mqtt"], ["https", "mqtt"] or ["mqtt", "https"]'


def _site_cache(value: str) -> str | None:
    allowed = "https://HOST/...{sha256} or {name}; http:// only at a loopback or private address"
    plain = value.startswith("http://")
    try:
        check_source(value, "http" if plain else "https")
    except MalformedError:
        return allowed
    return allowed if plain and not _is_near(urlsplit(value).hostname or "") else None


def _topic(value: str) -> str | None:
    return None if value and not set("+#\x00") & set(value) else "one topic, without + and #"


def _is_near(host: str) -> bool:
    """Return whether it is an address of this machine or site; a name may lead anywhere."""
    import ipaddress

    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_private or address.is_loopback


RULES: Mapping[str, Rule] = {
    "device": _name,
    "fleet": _name,
    "profile": _name,
    "state_dir": _short_enough,
    "sensors": _one_of(SENSORS),
    "broker.host": _filled,
    "broker.port": _between(1, 65535),
    "broker.keepalive_seconds": _between(5, 3600),
    "broker.reconnect_max_seconds": _positive,
    "fetch.window": _between(1, 1024),
    "fetch.timeout_seconds": _positive,
    "fetch.retries": _between(1, 1000),
    "fetch.bytes_per_second": _positive,
    "fetch.hours": _hours,
    "fetch.sources": _sources,
    "fetch.site_cache": _site_cache,
    "runner.runtimes": _one_of(r.value for r in RuntimeName),
    "runner.memory_cap_bytes": _positive,
    "runner.max_failures": _between(1, 1000),
    "runner.healthy_seconds": _positive,
    "runner.backoff_seconds": _positive,
    "runner.backoff_max_seconds": _positive,
    "runner.health_interval_seconds": _positive,
    "runner.confirm_seconds": _positive,
    "runner.tcp_port": _between(1, 65535),
    "runner.concurrency": _between(1, 64),
    "runner.queue": _between(0, 1024),
    "runner.queue_seconds": _positive,
    "runner.request_bytes": _positive,
    "runner.sandbox": lambda value: None if value in tuple(Sandbox) else ", ".join(Sandbox),
    "power.mqtt_topic": _topic,
    "power.period_seconds": _between(0.01, 600),
    "power.watts": _positive,
}
"""Key -> rule for a value of the right type; keys without a rule take any."""
