"""The topic tree: built and parsed here and nowhere else.

edgepick/1/{fleet}/root                    host   retained  signed root document, the newest
edgepick/1/{fleet}/root/{version}          host   retained  every signed root document, by its version
edgepick/1/{fleet}/host                    host   retained  HostPresence, also its last will
edgepick/1/{fleet}/m/{manifest digest}     host   retained  signed manifest
edgepick/1/{fleet}/c/{chunk digest}        host   retained  raw chunk bytes
edgepick/1/{fleet}/p/{profile}/desired     host   retained  signed desired state of a kind of device
edgepick/1/{fleet}/d/{device}/desired      host   retained  signed desired state of one device
edgepick/1/{fleet}/d/{device}/ack          host             ids of reports that are stored
edgepick/1/{fleet}/d/{device}/birth        device retained  who and what the device is
edgepick/1/{fleet}/d/{device}/presence     device retained  online or not, also its last will
edgepick/1/{fleet}/d/{device}/reported     device retained  what it runs
edgepick/1/{fleet}/d/{device}/report       device           outbox items, at least once
"""

from typing import NamedTuple

from edgepick_wire.enums import StrEnum
from edgepick_wire.errors import MalformedError
from edgepick_wire.ids import check_digest, check_name

PREFIX = "edgepick/1"


class DeviceTopic(StrEnum):
    """The last level of a device's topics."""

    DESIRED = "desired"
    ACK = "ack"
    BIRTH = "birth"
    PRESENCE = "presence"
    REPORTED = "reported"
    REPORT = "report"


class Address(NamedTuple):
    """A device topic, taken apart."""

    device: str
    kind: DeviceTopic


def root(fleet: str) -> str:
    """Return the topic of the fleet's newest root document."""
    return f"{PREFIX}/{check_name('fleet', fleet)}/root"


def root_version(fleet: str, version: int) -> str:
    """Return the topic of one version of the fleet's root document."""
    return f"{root(fleet)}/{version}"


def host(fleet: str) -> str:
    """Return the topic of the host's presence."""
    return f"{PREFIX}/{check_name('fleet', fleet)}/host"


def manifest(fleet: str, digest: str) -> str:
    """Return the topic of one signed manifest."""
    return f"{PREFIX}/{check_name('fleet', fleet)}/m/{check_digest(digest)}"


def chunk(fleet: str, digest: str) -> str:
    """Return the topic of one chunk."""
    return f"{PREFIX}/{check_name('fleet', fleet)}/c/{check_digest(digest)}"


def digest_in(topic: str) -> str:
    """Return the digest that a manifest's or chunk's topic ends with.

    Raises:
        BadNameError: The last level is not a digest.
    """
    return check_digest(topic.rpartition("/")[2])


def profile_desired(fleet: str, profile: str) -> str:
    """Return the topic of the desired state of all devices of one profile."""
    return f"{PREFIX}/{check_name('fleet', fleet)}/p/{check_name('profile', profile)}/desired"


def every_profile_desired(fleet: str) -> str:
    """Return the filter that matches the desired state of every profile."""
    return f"{PREFIX}/{check_name('fleet', fleet)}/p/+/desired"


def device(fleet: str, device_id: str, kind: DeviceTopic) -> str:
    """Return one of a device's topics."""
    return f"{PREFIX}/{check_name('fleet', fleet)}/d/{check_name('device', device_id)}/{kind.value}"


def every_device(fleet: str, kind: DeviceTopic) -> str:
    """Return the filter that matches this topic of every device."""
    return f"{PREFIX}/{check_name('fleet', fleet)}/d/+/{kind.value}"


def shared(group: str, topic_filter: str) -> str:
    """Return the filter whose messages go to one subscriber of ``group`` each (MQTT 5, section 4.8.2)."""
    return f"$share/{check_name('group', group)}/{topic_filter}"


def parse_device(fleet: str, topic: str) -> Address:
    """Return whose topic this is, and which.

    Raises:
        MalformedError: Not a device topic of this fleet.
        BadNameError: The device's name is not allowed.
    """
    head, sep, rest = topic.partition(f"{PREFIX}/{fleet}/d/")
    levels = rest.split("/")
    if head or not sep or len(levels) != 2 or levels[1] not in set(DeviceTopic):
        raise MalformedError(f"{topic!r} is not a device topic of fleet {fleet!r}")
    return Address(check_name("device", levels[0]), DeviceTopic(levels[1]))
