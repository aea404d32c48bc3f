"""A connection of simulated devices, at brokers that answer late or much at once."""

import selectors
import socket
import ssl
import time

import pytest

from edgepick_host.core.settings import BrokerSettings
from edgepick_host.simulate.link import Link
from fakes.certificates import Authority
from host.simulate.doors import CONNACK, Door


def hello(number: int) -> bytes:
    """Return a publication of one byte on topic ``t`` (MQTT 3.1.1, section 3.3)."""
    return bytes([0x30, 4, 0, 1]) + b"t" + bytes([number])


@pytest.fixture
def selector():
    with selectors.DefaultSelector() as made:
        yield made


def test_a_broker_that_answers_late_is_waited_for(selector):
    """A distant broker's word that it took us in arrives when it arrives: a quarter of a second is no refusal."""

    def late(link: socket.socket) -> None:
        time.sleep(0.25)
        link.sendall(CONNACK)

    door = Door(late)
    link = Link(BrokerSettings(host="127.0.0.1", port=door.port), client_id="far", selector=selector)
    link.connect()
    link.close()
    door.close()

    assert link.fresh


def test_all_that_arrives_in_one_piece_is_read_under_tls(selector, tmp_path):
    """One record of TLS holds many packets, and the socket is not readable again for the rest of them."""
    authority = Authority.begin(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("broker"))
    door = Door(lambda link: link.sendall(CONNACK + b"".join(map(hello, range(20)))), context)
    settings = BrokerSettings(host="127.0.0.1", port=door.port, tls=True, ca_file=str(authority.ca))
    link = Link(settings, client_id="safe", selector=selector)

    link.connect()
    heard = link.read()
    link.close()
    door.close()

    assert [payload for _, payload in heard] == [bytes([n]) for n in range(20)]
