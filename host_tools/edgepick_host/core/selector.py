"""Which devices are meant: a query over what a device says of itself. Pure.

    site=lab and region in (eu, us) and device!=pi-7*

Rules:
- A name is a label from the device's own configuration, or ``device`` or ``profile``.
- In a value ``*`` stands for any text. A label that a device does not have equals nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache

from edgepick_host.core.records import Device
from edgepick_wire.errors import MalformedError

DEVICE, PROFILE = "device", "profile"
_NAME, _VALUE = r"[\w.-]+", r"[\w.:/@+*?-]+"
_EQUALS = re.compile(rf"({_NAME}) *(!?=) *({_VALUE})")
_AMONG = re.compile(rf"({_NAME}) +(not +)?in *\( *({_VALUE}(?: *, *{_VALUE})*) *\)")
_AND = re.compile(r" +and +")


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One condition: the label is one of ``values``, or none of them if ``negated``."""

    name: str
    values: tuple[str, ...]
    negated: bool = False

    def matches(self, facts: Mapping[str, str]) -> bool:
        """Return whether a device of which ``facts`` is known is meant."""
        found = facts.get(self.name)
        among = found is not None and any(fnmatchcase(found, value) for value in self.values)
        return among is not self.negated

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.name}{'!=' if self.negated else '='}{self.values[0]}"
        return f"{self.name} {'not ' if self.negated else ''}in ({', '.join(self.values)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Conditions that must all hold; none of them means every device."""

    terms: tuple[Term, ...] = ()

    def matches(self, facts: Mapping[str, str]) -> bool:
        """Return whether a device of which ``facts`` is known is meant."""
        return all(term.matches(facts) for term in self.terms)

    def __str__(self) -> str:
        return " and ".join(str(term) for term in self.terms)


def facts_of(device: Device) -> dict[str, str]:
    """Return what a query may ask of a device: its labels, its name and its kind."""
    if device.birth is None:
        return {DEVICE: device.device}
    return {**device.birth.labels, DEVICE: device.device, PROFILE: device.birth.profile}


@lru_cache(maxsize=64)
def parse_query(text: str) -> Query:
    """Return the query that a person wrote; nothing means every device.

    Raises:
        MalformedError: Unreadable, or conditions that no device can keep.
    """
    if not text.strip():
        return Query()
    query = Query(terms=tuple(_term(part) for part in _AND.split(text.strip())))
    _check_possible(text, query)
    return query


def _term(text: str) -> Term:
    if equals := _EQUALS.fullmatch(text):
        name, sign, value = equals.groups()
        return Term(name=name, values=(value,), negated=sign == "!=")
    if among := _AMONG.fullmatch(text):
        name, negated, values = among.groups()
        return Term(name=name, values=tuple(v.strip() for v in values.split(",")), negated=bool(negated))
    raise MalformedError(
        f"{text!r}: expected conditions such as site=lab, site!=lab, region in (eu, us), joined by 'and'"
    )


def _check_possible(text: str, query: Query) -> None:
    """Refuse two plain values for one label: no device has both."""
    wanted: dict[str, set[str]] = {}
    for term in query.terms:
        if term.negated or any(set("*?") & set(value) for value in term.values):
            continue
        allowed = wanted.setdefault(term.name, set(term.values))
        allowed &= set(term.values)
        if not allowed:
            raise MalformedError(f"{text!r}: contradicts itself: {term.name} cannot be both")
