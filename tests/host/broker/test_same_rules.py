"""Both brokers' access lists say the same about every client and topic, and what they say is what mosquitto does."""

import getpass
import os
import shutil
import subprocess

import paho.mqtt.client as paho
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.properties import Properties

from edgepick_host.core import broker_access
from edgepick_wire import topics
from edgepick_wire.topics import DeviceTopic
from fakes.agent_process import until
from host.broker.access_lists import (
    PUBLISH,
    SUBSCRIBE,
    allowed,
    emqx_rules,
    matches,
    mosquitto_rules,
    terms,
)

FLEET = "plant"
DIGEST = "a" * 64
HOST = broker_access.HOST_USER
CLIENTS = (HOST, "pi-1", "pi-2")
OURS = mosquitto_rules(broker_access.mosquitto_acl(FLEET))
THEIRS = emqx_rules(broker_access.emqx_acl(FLEET))
NAMES = tuple(
    sorted(
        {
            topics.root(FLEET),
            topics.root_version(FLEET, 3),
            topics.host(FLEET),
            topics.manifest(FLEET, DIGEST),
            topics.chunk(FLEET, DIGEST),
            topics.profile_desired(FLEET, "raspberry-pi-4"),
            *(topics.device(FLEET, device, kind) for device in CLIENTS[1:] for kind in DeviceTopic),
        }
    )
)
"""Every kind of topic of a fleet with two devices."""
ELSEWHERE = (
    topics.chunk("other", DIGEST),
    f"{topics.PREFIX}/{FLEET}",
    f"{topics.PREFIX}/{FLEET}/m",
    f"{topics.chunk(FLEET, DIGEST)}/more",
    f"{topics.PREFIX}/{FLEET}/d/pi-1",
    f"{topics.PREFIX}/{FLEET}/d/{HOST}/report",
    "edgepick/2/plant/root",
    "anything",
)
"""Topics beside and around them."""

words = st.sampled_from(sorted({word for name in (*NAMES, *ELSEWHERE) for word in name.split("/")} | {"", "x"}))


@st.composite
def changed(draw: st.DrawFn) -> str:
    """Draw a topic of the fleet with a level replaced, left out or added."""
    levels = draw(st.sampled_from(NAMES)).split("/")
    at = draw(st.integers(0, len(levels) - 1))
    levels[at : at + draw(st.integers(0, 1))] = draw(st.lists(words, max_size=2))
    return "/".join(levels) or "x"


names = st.one_of(
    st.sampled_from((*NAMES, *ELSEWHERE)), changed(), st.lists(words, min_size=1, max_size=7).map("/".join)
)
clients = st.sampled_from((*CLIENTS, "desired", "+x"))


@st.composite
def widened(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a topic, and a filter with wildcards that covers it."""
    topic = draw(names)
    levels = topic.split("/")
    wild = draw(st.sets(st.integers(0, len(levels)), min_size=1, max_size=2))
    wanted = ["+" if at in wild else word for at, word in enumerate(levels)]
    cut = draw(st.integers(0, len(levels)))
    return topic, "/".join(wanted if draw(st.booleans()) else [*wanted[:cut], "#"])


@given(client=clients, action=st.sampled_from((PUBLISH, SUBSCRIBE)), topic=names)
def test_both_lists_say_the_same(client, action, topic):
    """Whoever does whatever with whichever topic is let by EMQX's rules exactly where mosquitto's let him."""
    assert allowed(OURS, client, action, topic) == allowed(THEIRS, client, action, topic)


@given(client=clients, asked=widened())
def test_a_wildcard_gets_nobody_further(client, asked):
    """EMQX judges a subscription by its filter: one that it lets pass covers nothing written that is not readable."""
    topic, wanted = asked
    assert matches(topic, wanted)

    if allowed(THEIRS, client, SUBSCRIBE, wanted):
        written = any(allowed(THEIRS, other, PUBLISH, topic) for other in (*CLIENTS, client))
        assert allowed(OURS, client, SUBSCRIBE, topic) or not written


@pytest.mark.parametrize("name", NAMES)
def test_every_topic_has_a_reader_and_a_writer(name):
    """The host or a device writes it and another may read it, or the lists above would agree about nothing."""
    reads = [client for client in CLIENTS if allowed(THEIRS, client, SUBSCRIBE, name)]
    writes = [client for client in CLIENTS if allowed(THEIRS, client, PUBLISH, name)]

    assert reads
    assert len(writes) == 1


@pytest.mark.skipif(shutil.which("erl") is None, reason="needs Erlang (Debian: erlang-base)")
def test_erlang_reads_the_same_terms(tmp_path):
    """`file:consult/1`, by which EMQX reads its rules, takes the file and finds in it the terms that we find."""
    text = broker_access.emqx_acl(FLEET)
    (tmp_path / "acl.conf").write_text(text)
    program = '{ok, Terms} = file:consult("acl.conf"), [io:format("~p.~n", [T]) || T <- Terms], halt(0).'

    read = subprocess.run(
        ["erl", "-noshell", "-eval", program], check=True, capture_output=True, text=True, cwd=tmp_path, timeout=60
    )

    assert terms(read.stdout) == terms(text)


@pytest.fixture
def guarded(broker):
    """Provide mosquitto with our access list, passwords for certificates, and a user who may do everything."""
    if broker.kind != "mosquitto" or shutil.which("mosquitto_passwd") is None:
        pytest.skip("needs mosquitto and mosquitto_passwd")
    broker.stop()
    users, rules = broker.folder / "users", broker.folder / "acl"
    rules.write_text(broker_access.mosquitto_acl(FLEET) + "\nuser seed\ntopic readwrite #\n")
    users.write_text("".join(f"{name}:secret\n" for name in (*CLIENTS, "seed")))
    subprocess.run(["mosquitto_passwd", "-U", str(users)], check=True)
    account = f"user {getpass.getuser()}\n" if os.geteuid() == 0 else ""
    broker.extra = f"{account}allow_anonymous false\nacl_file {rules}\npassword_file {users}"
    broker.start()
    return broker


class Person:
    """A client that hears which of its publications were refused, and what is retained for it."""

    def __init__(self, port: int, name: str) -> None:
        self.refused: dict[int, bool] = {}
        self.heard: set[str] = set()
        self.subscribed = 0
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self.client.username_pw_set(name, "secret")
        self.client.on_publish = self._published
        self.client.on_message = lambda _client, _data, message: self.heard.add(message.topic)
        self.client.on_subscribe = self._granted
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        until(self.client.is_connected, f"{name} is connected")

    def _published(
        self, _client: object, _data: object, mid: int, reason: paho.ReasonCode, _properties: Properties
    ) -> None:
        self.refused[mid] = reason.is_failure

    def _granted(self, *_answer: object) -> None:
        self.subscribed += 1

    def may_publish(self, wanted: tuple[str, ...], *, retain: bool = False) -> set[str]:
        """Return on which of these topics the broker let it publish."""
        sent = {topic: self.client.publish(topic, b"x", qos=1, retain=retain).mid for topic in wanted}
        until(lambda: self.refused.keys() >= set(sent.values()), "every publication is answered")
        return {topic for topic, mid in sent.items() if not self.refused[mid]}

    def may_read(self, wanted: tuple[str, ...]) -> set[str]:
        """Return on which of these topics it gets the retained message; one that everybody may read comes last."""
        for count, topic in enumerate((*wanted, topics.host(FLEET)), 1):
            self.client.subscribe(topic, qos=1)
            until(lambda count=count: self.subscribed >= count, "the subscription is answered")
        until(lambda: topics.host(FLEET) in self.heard, "the last message is here")
        return self.heard & set(wanted)

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_mosquitto_does_what_the_list_says(guarded):
    """Each client publishes to and reads from every kind of topic: it gets through exactly where both lists say so."""
    sample = (*NAMES, *ELSEWHERE)
    seed = Person(guarded.port, "seed")
    assert seed.may_publish(sample, retain=True) == set(sample)
    seed.leave()

    for name in CLIENTS:
        person = Person(guarded.port, name)
        readable, writable = person.may_read(sample), person.may_publish(sample)
        person.leave()

        assert readable == {topic for topic in sample if allowed(THEIRS, name, SUBSCRIBE, topic)}
        assert writable == {topic for topic in sample if allowed(THEIRS, name, PUBLISH, topic)}
