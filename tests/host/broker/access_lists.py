"""Access lists as text, read and evaluated: mosquitto's, and EMQX's by the meaning that its documentation gives them.

EMQX goes through its rules from above; the first that fits decides. Mosquitto refuses what no line allows.
"""

import re
from dataclasses import dataclass

WORD = r'"(?:[^"\\]|\\.)*"|[a-z][A-Za-z0-9_@]*|[{}\[\],.]|\S'
ENDS = {"{": "}", "[": "]"}
PUBLISH, SUBSCRIBE = "publish", "subscribe"
EVERYBODY = "all"


@dataclass(frozen=True)
class Rule:
    """Whether a client (or :data:`EVERYBODY`) may do something on topics; ``${username}`` is the client's name."""

    allows: bool
    who: str
    action: str
    filters: tuple[str, ...]

    def fits(self, client: str, action: str, topic: str) -> bool:
        filters = (each.replace("${username}", client) for each in self.filters)
        return (
            self.who in (EVERYBODY, client)
            and self.action in (EVERYBODY, action)
            and any(matches(topic, each) for each in filters)
        )


def allowed(rules: list[Rule], client: str, action: str, topic: str) -> bool:
    """Return what the first rule that fits says; no rule, no."""
    return next((rule.allows for rule in rules if rule.fits(client, action, topic)), False)


def matches(topic: str, pattern: str) -> bool:
    """Return whether a topic is one of a filter's; EMQX takes a wildcard in what is asked for as any other word."""
    words, wanted = topic.split("/"), pattern.split("/")
    if wanted[-1] == "#":
        words, wanted = words[: len(wanted) - 1], wanted[:-1]
    same = (want in ("+", word) for word, want in zip(words, wanted, strict=False))
    return len(words) == len(wanted) and all(same)


def mosquitto_rules(text: str) -> list[Rule]:
    """Return mosquitto's access list as rules: lines after ``user`` are that user's, patterns are everybody's."""
    user, rules = "", []
    for line in (line.split() for line in text.splitlines() if line and not line.startswith("#")):
        if line[0] == "user":
            user = line[1]
            continue
        kind, access, topic = line
        who = EVERYBODY if kind == "pattern" else user
        action = {"read": SUBSCRIBE, "write": PUBLISH}[access]
        rules.append(Rule(allows=True, who=who, action=action, filters=(topic.replace("%u", "${username}"),)))
    return rules


def emqx_rules(text: str) -> list[Rule]:
    """Return EMQX's access list as rules."""
    return [_emqx_rule(term) for term in terms(text)]


def _emqx_rule(term: tuple) -> Rule:
    permission, who, *rest = term
    action, filters = rest or (EVERYBODY, ['"#"'])
    name = EVERYBODY if who == EVERYBODY else who[1].strip('"')
    return Rule(
        allows=permission == "allow", who=name, action=action, filters=tuple(each.strip('"') for each in filters)
    )


def terms(text: str) -> list:
    """Return the terms of an Erlang file as `file:consult/1` reads them: tuples, lists, strings and atoms alone."""
    words = re.findall(WORD, re.sub(r"(?m)^\s*%.*$", "", text))
    at = 0

    def term():
        nonlocal at
        word, at = words[at], at + 1
        if word not in ENDS:
            assert re.fullmatch(r'".*"|[a-z]\w*', word), f"no term begins with {word}"
            return word
        found = []
        while words[at] != ENDS[word]:
            found.append(term())
            assert words[at] in (",", ENDS[word]), f"{words[at]} where a comma is wanted"
            at += words[at] == ","
            assert (words[at - 1], words[at]) != (",", ENDS[word]), "a comma before the end"
        at += 1
        return tuple(found) if word == "{" else found

    read = []
    while at < len(words):
        read.append(term())
        assert words[at] == ".", f"{words[at]} where a full stop is wanted"
        at += 1
    return read
