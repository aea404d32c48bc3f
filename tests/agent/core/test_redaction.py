"""What of a configuration leaves the device: what is told by name, everything else not, wherever it is quoted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.config import schema
from edgepick_agent.core.redaction import REDACTED, SHORTEST_CHARACTERS, TOLD, redacted, secrets, told

CANARY = "C4n4ry"
texts = st.text(max_size=20).map(lambda text: CANARY + text)
forms = st.sampled_from([str, repr, json.dumps, lambda text: json.dumps({"a": [text]}), "https://h/?t={}&x=1".format])


@given(texts, forms, st.booleans())
def test_a_secret_is_found_however_it_is_written(canary, form, whole):
    """As it is, quoted, escaped, in a document or amid a damaged one: nothing of it is left."""
    hidden = secrets([("power.command", ("sh", "-c", f"meter -u admin:{canary} {{name}}"))])

    clean = redacted((form(canary) if whole else f'{{"torn": {form(canary)}').encode("utf-8", "surrogatepass"), hidden)

    assert CANARY.encode() not in clean


@given(texts)
def test_every_setting_that_is_not_told_by_name_is_secret(text):
    """Also one that is new, in a list or a table; a value of a told one is told."""
    values = {"new.setting": text, "new.list": (text,), "new.table": {"k": text}, "new.number": 7, "device": "pi-7"}

    shown = told(values)

    assert shown == {**dict.fromkeys(values, REDACTED), "new.number": 7, "device": "pi-7"}
    assert text in secrets(values.items())


def test_a_told_setting_is_one_that_there_is():
    """The list names no setting that was renamed, which would then be hidden by mistake, or told by a new meaning."""
    assert schema().keys() >= TOLD


@pytest.mark.parametrize("name", ["true", "1000", "null"])
def test_a_document_stays_one(name):
    """A secret that looks like a value of JSON is taken out of texts, and breaks no document."""
    document = {"running": True, "time": 10003, "none": None, "said": f"lets {name} in"}

    clean = json.loads(redacted(json.dumps(document).encode(), secrets([("broker.username", name)])))

    assert clean == {**document, "said": f"lets {REDACTED} in"}


def test_what_is_told_elsewhere_or_too_short_is_left():
    """A user name that is the device's id, or of three letters, does not make the rest unreadable."""
    assert secrets([("device", "pi-7"), ("broker.username", "pi-7")]) == frozenset()
    assert secrets([("broker.username", "x" * (SHORTEST_CHARACTERS - 1))]) == frozenset()
