"""Finds out how far a connection to the broker gets: name, TCP, TLS, MQTT.

It speaks just enough MQTT 3.1.1 by itself (one CONNECT, one CONNACK), so that each step fails with
its own message, and the running agent's session is not disturbed: the client id is another one.
"""

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgepick_agent.core.broker_mends import CLOCK, RENEW, broker_mend
from edgepick_agent.core.findings import Finding, Level
from edgepick_agent.core.settings import BrokerSettings
from edgepick_agent.core.tls_words import Validity, alert_words, certificate_words, validity

TIMEOUT_SECONDS = 5.0
CONNACK = 0x20
WARN_DAYS = 30
DAY_SECONDS = 86400

COMPARE = "Compare broker.username and the content of broker.password_file with the broker's."
ANSWERS = {
    1: ("the broker does not speak MQTT 3.1.1", "Use a broker that does: mosquitto, EMQX, HiveMQ, VerneMQ."),
    2: ("the broker does not accept this client id", "Allow the device's id, and the same id with -doctor."),
    3: ("the broker is not available now", "Look at the broker's log; try again."),
    4: ("wrong user name or password", COMPARE),
    # mosquitto's answer to a wrong password, too.
    5: ("not allowed: wrong user name or password, or none given", COMPARE),
}
"""CONNACK return code -> what it means, and what to do (MQTT 3.1.1, table 3.1)."""


class _Stop(Exception):  # noqa: N818 - not an error, but the last finding
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.detail)
        self.finding = finding


def probe_broker(settings: BrokerSettings, client_id: str) -> Sequence[Finding]:
    """Return one finding per step; the first failed step is the last. Takes some seconds at most."""
    found: list[Finding] = []
    try:
        found.extend(_steps(settings, client_id))
    except _Stop as stop:
        found.append(stop.finding)
    return found


def _steps(settings: BrokerSettings, client_id: str) -> Iterator[Finding]:
    where = f"{settings.host}:{settings.port}"
    if settings.tls and settings.cert_file:
        yield _own_certificate(settings.cert_file)
    addresses = _resolve(settings)
    yield _good("broker name", f"{settings.host} is {addresses}" if addresses != settings.host else settings.host)
    with _connect(settings) as plain:
        yield _good("broker port", f"{where} accepts connections")
        with _encrypt(plain, settings) if settings.tls else plain as channel:
            if isinstance(channel, ssl.SSLSocket):
                yield _certificate(channel)
            _log_in(channel, settings, client_id)
    who = settings.username or ("this certificate" if settings.cert_file else "anyone")
    yield _good("broker login", f"{where} speaks MQTT and lets {who} in")


def _good(check: str, detail: str) -> Finding:
    return Finding(check=check, level=Level.OK, detail=detail)


def _bad(check: str, detail: str, mend: str) -> _Stop:
    return _Stop(Finding(check=check, level=Level.FAIL, detail=detail, mend=mend))


def _resolve(settings: BrokerSettings) -> str:
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _bad(
            "broker name",
            f"{settings.host}: {error.strerror or error}",
            "Check broker.host, the network cable or Wi-Fi, and: getent hosts " + settings.host,
        ) from error
    return ", ".join(sorted({str(entry[4][0]) for entry in found}))


def _connect(settings: BrokerSettings) -> socket.socket:
    try:
        return socket.create_connection((settings.host, settings.port), timeout=TIMEOUT_SECONDS)
    except ConnectionRefusedError as error:
        mend = "The machine is there, but nothing listens: is the broker running, and broker.port right?"
        raise _bad("broker port", f"{settings.host}:{settings.port}: connection refused", mend) from error
    except OSError as error:
        mend = "Is the machine on, on the same network, and not behind a firewall? Try: ping " + settings.host
        raise _bad("broker port", f"{settings.host}:{settings.port}: {error.strerror or error}", mend) from error


def _encrypt(plain: socket.socket, settings: BrokerSettings) -> ssl.SSLSocket:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:  # ssl.SSLError is one
        mend = "Check broker.ca_file, broker.cert_file and broker.key_file: PEM files that belong together."
        raise _bad("broker TLS files", _reason(error), mend) from error
    try:
        return context.wrap_socket(plain, server_hostname=settings.host)
    except ssl.SSLCertVerificationError as error:
        words = certificate_words(error.verify_code, error.verify_message)
        raise _bad("broker TLS", words, broker_mend(words)) from error
    except OSError as error:
        _stop_if_refused(error)
        mend = "Does the broker speak TLS on this port? 8883 usually does, 1883 does not."
        raise _bad("broker TLS", _reason(error), mend) from error


def _stop_if_refused(error: OSError) -> None:
    """Raise the broker's no to this device's certificate, if it is one; TLS 1.3 tells it in the first read."""
    if words := alert_words(getattr(error, "reason", None)):
        raise _bad("broker TLS", words, broker_mend(words)) from error


def _own_certificate(path: str) -> Finding:
    try:
        found = validity(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        mend = "Check broker.cert_file: a PEM file with this device's certificate."
        raise _bad("device certificate", f"{path}: {getattr(error, 'strerror', None) or error}", mend) from error
    now, soon = _moment(time.time()), _moment(time.time() + WARN_DAYS * DAY_SECONDS)
    return _judge(found, now, soon)


def _judge(found: Validity, now: str, soon: str) -> Finding:
    check, ends = "device certificate", f"{found.ends[:4]}-{found.ends[4:6]}-{found.ends[6:8]}"
    if found.begins > now:
        begins = f"{found.begins[:4]}-{found.begins[4:6]}-{found.begins[6:8]}"
        detail = f"not yet valid: it begins on {begins}, and this device's clock says {now[:4]}-{now[4:6]}-{now[6:8]}"
        return Finding(check=check, level=Level.FAIL, detail=detail, mend=CLOCK)
    if found.ends < now:
        return Finding(check=check, level=Level.FAIL, detail=f"expired on {ends}", mend=RENEW)
    level = Level.WARN if found.ends < soon else Level.OK
    return Finding(check=check, level=level, detail=f"valid until {ends}", mend=RENEW if level is Level.WARN else "")


def _moment(seconds: float) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(seconds))


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or str(error) or type(error).__name__


def _certificate(channel: ssl.SSLSocket) -> Finding:
    certificate = channel.getpeercert() or {}
    ends = str(certificate.get("notAfter", ""))
    days = (ssl.cert_time_to_seconds(ends) - time.time()) / DAY_SECONDS if ends else 0.0
    detail = f"{channel.version()}, certificate valid until {ends}"
    if days < WARN_DAYS:
        mend = "Renew the broker's certificate before it ends."
        return Finding(check="broker TLS", level=Level.WARN, detail=f"{detail} ({days:.0f} days)", mend=mend)
    return _good("broker TLS", detail)


def _log_in(channel: socket.socket, settings: BrokerSettings, client_id: str) -> None:
    with contextlib.suppress(OSError):  # what the broker said before it closed is still to be read
        channel.sendall(connect_packet(client_id, settings.username, _password(settings)))
    try:
        answer = _read(channel, 4)
    except OSError as error:
        _stop_if_refused(error)
        mend = "Is it an MQTT broker on this port, and with the right setting of broker.tls?"
        raise _bad("broker login", f"no answer: {_reason(error)}", mend) from error
    if len(answer) < 4 or answer[0] != CONNACK:
        mend = "Is it an MQTT broker on this port, and with the right setting of broker.tls?"
        raise _bad("broker login", "closed the connection, or does not speak MQTT", mend)
    if answer[3]:
        detail, mend = ANSWERS.get(answer[3], (f"refused with code {answer[3]}", "Look at the broker's log."))
        raise _bad("broker login", detail, mend)


def _password(settings: BrokerSettings) -> str | None:
    if not settings.password_file:
        return None
    try:
        return Path(settings.password_file).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        mend = "Write the password into it; chmod 600, owned by the account of the agent."
        raise _bad("broker login", f"{settings.password_file}: {error.strerror}", mend) from error


def _read(channel: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := channel.recv(count - len(data))):
        data += more
    return data


def connect_packet(client_id: str, username: str | None, password: str | None) -> bytes:
    """Return an MQTT 3.1.1 CONNECT with a clean session (specification, section 3.1)."""
    flags = 0x02 | (0x80 if username is not None else 0) | (0x40 if password is not None else 0)
    body = _field("MQTT") + struct.pack("!BBH", 4, flags, 10) + _field(client_id)
    body += b"".join(_field(text) for text in (username, password) if text is not None)
    return b"\x10" + _length(len(body)) + body


def _field(text: str) -> bytes:
    data = text.encode()
    return struct.pack("!H", len(data)) + data


def _length(size: int) -> bytes:
    """Return the remaining length as MQTT writes it: seven bits a byte, lowest first."""
    low, rest = size & 0x7F, size >> 7
    return bytes([low]) if not rest else bytes([low | 0x80]) + _length(rest)
