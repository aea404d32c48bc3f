"""What the agent says when it cannot connect."""

import errno
import queue
import socket
import ssl

import pytest

from edgepick_agent.adapters.mqtt import MqttTransport, in_words
from edgepick_agent.core.events import Disconnected
from edgepick_agent.core.settings import BrokerSettings
from edgepick_agent.core.tls_words import CERTIFICATES
from edgepick_agent.errors import ConfigError

SETTINGS = BrokerSettings(host="broker.example", port=8883)


def nobody_waits(_digest: str, _data: bytes | memoryview) -> None:
    """Take no chunk."""


def certificate_error(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "as OpenSSL says it"
    return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "name not found"),
        (TimeoutError(), "no answer"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "Network is unreachable"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS failed"),
        (certificate_error(9), "not yet valid"),
        (certificate_error(10), "expired"),
        (certificate_error(20), "unknown authority"),
        (certificate_error(62), "another host name"),
        (certificate_error(99), "as OpenSSL says it"),
        (None, "cannot connect"),
    ],
)
def test_every_failure_has_words_and_an_address(error, says):
    """Each kind of failure is told apart, and the broker's address is named."""
    words = in_words(error, SETTINGS)

    assert says in words
    assert words.startswith("broker.example:8883: ")


def test_the_certificate_codes_are_openssls():
    """The codes that have words are those that openssl/x509_vfy.h gives these meanings."""
    assert set(CERTIFICATES) == {9, 10, 18, 19, 20, 62, 64}


def test_nobody_listening_is_told_as_refused():
    """A real attempt at a closed port ends in the same words."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    transport = MqttTransport(BrokerSettings(host="127.0.0.1", port=port), "a", ("t", b""), inbox.put, nobody_waits)

    transport.start()
    event = inbox.get(timeout=60)
    transport.stop()

    assert event == Disconnected(f"127.0.0.1:{port}: connection refused; does the broker run there?")


def test_a_password_file_that_is_not_there_is_a_matter_of_configuration(tmp_path):
    """The error names the key and the file."""
    settings = BrokerSettings(host="x", username="u", password_file=str(tmp_path / "nothing"))

    with pytest.raises(ConfigError, match=r"broker\.password_file .*nothing"):
        MqttTransport(settings, "a", ("t", b""), lambda _: None, nobody_waits)


def test_tls_files_that_cannot_be_read_are_a_matter_of_configuration(tmp_path):
    """A wrong certificate file is found at the start, not at the first connection."""
    settings = BrokerSettings(host="x", tls=True, ca_file=str(tmp_path / "nothing.pem"))

    with pytest.raises(ConfigError, match="TLS files"):
        MqttTransport(settings, "a", ("t", b""), lambda _: None, nobody_waits)
