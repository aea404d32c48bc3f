"""Topics and names: built and parsed in one place, never deeper than brokers allow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_strategies import attempt, digests, names

from edgepick_wire import limits, topics
from edgepick_wire.errors import BadNameError, MalformedError, WireError
from edgepick_wire.ids import check_digest, check_name, digest_of
from edgepick_wire.topics import DeviceTopic

kinds = st.sampled_from(DeviceTopic)


@given(names, names, kinds)
def test_device_topics_round_trip(fleet: str, device: str, kind: DeviceTopic):
    """A device topic is parsed to what it was built from."""
    assert topics.parse_device(fleet, topics.device(fleet, device, kind)) == (device, kind)


@given(names, names, digests, kinds)
def test_no_topic_is_too_deep_or_wild(fleet: str, name: str, digest: str, kind: DeviceTopic):
    """Every topic has at most seven levels and no wildcard; only the filter for all devices has one."""
    built = [
        topics.root(fleet),
        topics.root_version(fleet, 2**53),
        topics.host(fleet),
        topics.manifest(fleet, digest),
        topics.chunk(fleet, digest),
        topics.profile_desired(fleet, name),
        topics.device(fleet, name, kind),
        topics.every_device(fleet, kind),
    ]

    assert all(len(topic.split("/")) <= limits.MAX_TOPIC_LEVELS for topic in built)
    assert all(topic.startswith("edgepick/1/") for topic in built)
    assert [topic for topic in built if set(topic) & set("+#")] == built[-1:]


@given(names, digests)
def test_digests_are_found_in_topics(fleet: str, digest: str):
    """A manifest's and a chunk's topic end with the digest that names it."""
    assert topics.digest_in(topics.manifest(fleet, digest)) == digest
    assert topics.digest_in(topics.chunk(fleet, digest)) == digest


@given(names, names)
def test_topics_of_other_fleets_are_not_parsed(fleet: str, other: str):
    """A topic of another fleet is malformed here."""
    topic = topics.device(other, "a", DeviceTopic.BIRTH)

    if fleet != other:
        with pytest.raises(MalformedError):
            topics.parse_device(fleet, topic)


@given(st.text(max_size=40) | st.lists(st.sampled_from(["edgepick", "1", "f", "d", "a", "birth", ""])).map("/".join))
def test_any_topic_is_parsed_or_refused(topic: str):
    """Whatever topic arrives, parsing raises nothing but WireError."""
    assert isinstance(attempt(topics.parse_device, "f", topic), (topics.Address, WireError))
    assert isinstance(attempt(topics.digest_in, topic), (str, WireError))


@given(st.text() | st.text("abz09._-", max_size=70))
def test_names_are_safe_everywhere(text: str):
    """What passes as a name can stand in a topic, a file name and a terminal."""
    found = attempt(check_name, "device", text)

    if isinstance(found, BadNameError):
        assert "device" in str(found)
    else:
        assert 1 <= len(found) <= 64
        assert not set(found) - set("abcdefghijklmnopqrstuvwxyz0123456789._-")
        assert found[0] not in "._-"


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a+", "#", "A", "a\n", "a" * 65, "ä", "-a", " a", None, 3])
def test_names_that_are_none(text: object):
    """Wildcards, path parts, capitals, line ends and other types are no names."""
    with pytest.raises(BadNameError):
        check_name("device", text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", None])
def test_digests_that_are_none(text: object):
    """Only 64 lower-case hexadecimal digits are a digest."""
    with pytest.raises(BadNameError):
        check_digest(text)  # type: ignore[arg-type]


def test_digest_is_sha256():
    """The digest of "abc" is the one that FIPS 180-4 prints."""
    assert digest_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
