"""The doctor's way to the broker: each step that fails says which, and how to mend it; on a real mosquitto."""

import shutil
import socket
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_agent.adapters.broker_probe import connect_packet, probe_broker
from edgepick_agent.core.findings import Level
from edgepick_agent.core.settings import BrokerSettings


def settings(port, **changes):
    return BrokerSettings(host="127.0.0.1", port=port, **changes)


def levels(findings):
    return [(f.check, f.level.value) for f in findings]


def test_a_good_way_is_ok_to_the_end(broker):
    """Name, port and login of a real broker are three findings, all fine."""
    found = probe_broker(settings(broker.port), "pi-7-doctor")

    assert levels(found) == [("broker name", "ok"), ("broker port", "ok"), ("broker login", "ok")]


def test_a_name_that_nobody_knows_ends_at_the_name():
    """A host name that cannot be resolved is told apart from a broker that is away."""
    found = probe_broker(BrokerSettings(host="no-such-host.invalid"), "x")

    assert levels(found) == [("broker name", "fail")]
    assert "getent hosts no-such-host.invalid" in found[-1].mend


def test_a_port_without_a_listener_ends_at_the_port():
    """A refused connection says that the machine is there, but nothing listens."""
    found = probe_broker(settings(1), "x")

    assert levels(found)[-1] == ("broker port", "fail")
    assert "connection refused" in found[-1].detail


@pytest.fixture
def guarded(start_broker, tmp_path):
    """Provide a mosquitto that knows one user, "pi" with the password "secret"."""
    passwords = tmp_path / "passwords"
    program = shutil.which("mosquitto_passwd", path="/usr/bin:/usr/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run([program, "-b", "-c", str(passwords), "pi", "secret"], check=True, capture_output=True)
    return start_broker(f"allow_anonymous false\npassword_file {passwords}")


@pytest.mark.parametrize(
    ("password", "level"), [("secret", Level.OK), ("wrong", Level.FAIL), ("secret\n", Level.OK), (None, Level.FAIL)]
)
def test_a_wrong_password_is_told_apart_from_an_absent_broker(guarded, tmp_path, password, level):
    """The login is the step that fails, and the message is about name and password."""
    file = tmp_path / "broker.password"
    if password:
        file.write_text(password)
    user = {"username": "pi", "password_file": str(file)} if password else {}

    last = probe_broker(settings(guarded.port, **user), "x")[-1]

    assert (last.check, last.level) == ("broker login", level)
    assert level is Level.OK or "broker.password_file" in last.mend


def test_a_password_file_that_is_away_is_named(broker):
    """The file, not the broker, is what must be mended."""
    last = probe_broker(settings(broker.port, username="pi", password_file="/nowhere/password"), "x")[-1]

    assert (last.level, last.detail) == (Level.FAIL, "/nowhere/password: No such file or directory")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20"])
def test_something_that_is_no_broker_is_recognised(answer):
    """A web server, or whatever hangs up, is not taken for a broker."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_once, args=(server, answer))
        thread.start()
        last = probe_broker(settings(server.getsockname()[1]), "x")[-1]
        thread.join()

    assert (last.check, last.level) == ("broker login", Level.FAIL)
    assert "MQTT" in last.detail


@pytest.mark.parametrize(
    ("code", "word"), [(1, "3.1.1"), (2, "client id"), (3, "not available"), (5, "user name"), (99, "99")]
)
def test_each_answer_of_a_broker_has_its_words(code, word):
    """Every return code of CONNACK is a sentence."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer_once, args=(server, bytes([0x20, 2, 0, code])))
        thread.start()
        last = probe_broker(settings(server.getsockname()[1]), "x")[-1]
        thread.join()

    assert last.level is Level.FAIL
    assert word in last.detail


def answer_once(server, answer):
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(answer)


@pytest.fixture
def encrypted(start_broker, tmp_path):
    """Provide a mosquitto with a certificate for 127.0.0.1 of our own authority, and that authority's file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    authority = certificate(
        tmp_path, "authority", "/CN=farm authority", ["-addext", "basicConstraints=critical,CA:TRUE"]
    )
    signed = ["-CA", authority[0], "-CAkey", authority[1], "-addext", "subjectAltName=IP:127.0.0.1"]
    pair = certificate(tmp_path, "broker", "/CN=broker", signed)
    extra = f"allow_anonymous true\ncertfile {pair[0]}\nkeyfile {pair[1]}"
    return start_broker(extra), authority[0]


def certificate(folder, name, subject, extra):
    files = (str(folder / f"{name}.pem"), str(folder / f"{name}.key"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "10", "-subj", subject, "-out", files[0], "-keyout", files[1], *extra]
    subprocess.run(command, check=True, capture_output=True)
    return files


def test_an_encrypted_way_warns_before_the_certificate_ends(encrypted):
    """A verified connection is fine, and a certificate with ten days to go is said to be."""
    broker, authority = encrypted

    found = probe_broker(settings(broker.port, tls=True, ca_file=authority), "x")

    assert levels(found)[-2:] == [("broker TLS", "warn"), ("broker login", "ok")]
    assert "(10 days)" in found[-2].detail or "(9 days)" in found[-2].detail


def test_a_certificate_of_a_stranger_is_refused(encrypted):
    """Without the authority's file the certificate does not count, and the cure names it."""
    broker, _ = encrypted

    last = probe_broker(settings(broker.port, tls=True), "x")[-1]

    assert (last.check, last.level) == ("broker TLS", Level.FAIL)
    assert "broker.ca_file" in last.mend


@pytest.mark.parametrize("content", [None, b"not a certificate"])
def test_certificate_files_that_are_none_are_named(broker, tmp_path, content):
    """A missing or broken file of certificates is told apart from a broker's bad one."""
    path = tmp_path / "ca.pem"
    if content:
        path.write_bytes(content)

    last = probe_broker(settings(broker.port, tls=True, ca_file=str(path)), "x")[-1]

    assert (last.check, last.level) == ("broker TLS files", Level.FAIL)


def test_encryption_to_a_plain_port_is_a_finding_not_a_trace(broker):
    """TLS where none is spoken is explained by the port."""
    last = probe_broker(settings(broker.port, tls=True), "x")[-1]

    assert (last.check, last.level) == ("broker TLS", Level.FAIL)
    assert "8883" in last.mend


@given(st.text(min_size=1, max_size=200), st.none() | st.text(max_size=300), st.none() | st.text(max_size=300))
def test_a_connect_packet_tells_its_own_length(client_id, username, password):
    """The remaining length is exactly what follows, whatever the texts hold."""
    packet = connect_packet(client_id, username, password)

    length, used = 0, 0
    for used, byte in enumerate(packet[1:5]):
        length |= (byte & 0x7F) << (7 * used)
        if not byte & 0x80:
            break
    assert packet[0] == 0x10
    assert len(packet) == 2 + used + length
