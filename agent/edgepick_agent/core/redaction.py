"""What a support bundle may tell of a configuration, and how the rest is taken out of everything else in it; pure.

The rule: numbers and switches are told, and the texts of the settings in :data:`TOLD`. The texts of every other
setting are secret, those of a setting that nobody thought of here too.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

TOLD = frozenset(
    {"device", "fleet", "profile", "state_dir", "root_document", "sensors", "sysfs_root"}
    | {"labels"}  # which every report tells the whole fleet
    | {"broker.host", "broker.ca_file", "broker.cert_file"}
    | {"fetch.hours", "fetch.sources", "fetch.ca_file"}
    | {"runner.python", "runner.runtimes", "runner.sandbox"}
    | {"power.mqtt_key"}
)
"""Settings whose texts are told: names, and places that hold no secret."""

REDACTED = "(redacted)"
SHORTEST_CHARACTERS = 4
"""A shorter text is not looked for elsewhere: it keeps no secret, and occurs in many a word."""
BETWEEN = re.compile(r"\{\w*\}|[\s?&=:;,@'\"]+")
"""What stands between the words of a command or an URL, of which a message may quote a single one."""


def told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings with a note in place of what is secret; whether it is set at all can still be seen."""
    return {key: value if key in TOLD or not any(_texts(value)) else REDACTED for key, value in values.items()}


def secrets(values: Iterable[tuple[str, Any]]) -> frozenset[str]:
    """Return the texts that nobody else is told: those of secret settings and their words, however written.

    A text that may be told in another place, as where a device's user name is its id, is none.
    """
    pairs = list(values)
    plain = {text for key, value in pairs if key in TOLD for text in _texts(value)}
    hidden = {text for key, value in pairs if key not in TOLD for text in _texts(value)}
    words = {word for text in hidden for word in (text, *BETWEEN.split(text)) if len(word) >= SHORTEST_CHARACTERS}
    return frozenset(form for word in words - plain for form in (word, _in_json(word), repr(word)[1:-1]))


def redacted(data: bytes, hidden: Iterable[str]) -> bytes:
    """Return ``data`` with a note in place of every text in ``hidden``; a JSON document stays one."""
    longest_first = sorted(hidden, key=len, reverse=True)
    text = data.decode("utf-8", "surrogateescape")
    try:
        clean = json.dumps(_without(json.loads(text), longest_first), indent=2)
    except (ValueError, RecursionError):
        clean = _replaced(text, longest_first)
    return clean.encode("utf-8", "surrogateescape")


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in the value of a setting, right or wrong."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _without(document: Any, longest_first: list[str]) -> Any:
    if isinstance(document, str):
        return _replaced(document, longest_first)
    if isinstance(document, list):
        return [_without(each, longest_first) for each in document]
    if isinstance(document, dict):
        return {name: _without(value, longest_first) for name, value in document.items()}
    return document


def _replaced(text: str, longest_first: list[str]) -> str:
    for secret in longest_first:
        text = text.replace(secret, REDACTED)
    return text
