"""What goes wrong with certificates between this host and its broker, in words an operator can act on."""

import re
from typing import NamedTuple


class TlsTrouble(NamedTuple):
    """What is wrong, and what to do about it."""

    words: str
    hint: str


_CLOCK = "Set this machine's clock."
_BROKER_ENDED = (
    "`edgepick broker renew` makes a new one: copy server.pem to the broker, restart it. Is the clock right?"
)
_AUTHORITY = "Give the certificate of its authority as ca_file in [broker]; `edgepick broker init` wrote host/ca.pem."
_NAME = "Name the broker as its certificate does in url of [broker], or set it up with every name (--host)."
_OWN = (
    "`edgepick broker renew` makes a new one; cert_file and key_file in [broker] name it. Is the broker's clock right?"
)

CERTIFICATES = {
    9: TlsTrouble("its certificate is not yet valid by this machine's clock", _CLOCK),
    10: TlsTrouble("its certificate has expired", _BROKER_ENDED),
    18: TlsTrouble("its certificate is self-signed", _AUTHORITY),
    19: TlsTrouble("its certificate chain ends in an unknown authority", _AUTHORITY),
    20: TlsTrouble("its certificate is by an unknown authority", _AUTHORITY),
    62: TlsTrouble("its certificate is for another host name", _NAME),
    64: TlsTrouble("its certificate is for another address", _NAME),
}
"""OpenSSL's X509_V_ERR_* codes (openssl/x509_vfy.h)."""

ALERTS = {
    "CERTIFICATE_REQUIRED": TlsTrouble(
        "it wants a certificate of this host", "Give cert_file and key_file in [broker]."
    ),
    "HANDSHAKE_FAILURE": TlsTrouble("it refused the handshake", "It may want cert_file and key_file in [broker]."),
    "CERTIFICATE_EXPIRED": TlsTrouble("it refused this host's certificate: expired, or not yet valid there", _OWN),
    "CERTIFICATE_REVOKED": TlsTrouble("it refused this host's certificate: it was revoked", _OWN),
    "UNKNOWN_CA": TlsTrouble("it refused this host's certificate: its authority is unknown there", _OWN),
    "BAD_CERTIFICATE": TlsTrouble("it refused this host's certificate: not valid, or not yet valid there", _OWN),
    "CERTIFICATE_UNKNOWN": TlsTrouble("it refused this host's certificate", _OWN),
    "UNSUPPORTED_CERTIFICATE": TlsTrouble("it refused this host's certificate: not made for a client", _OWN),
    "DECRYPT_ERROR": TlsTrouble("it refused this host's certificate: certificate and key do not belong together", _OWN),
}
"""End of the name that OpenSSL gives a TLS alert (RFC 8446, section 6.2) -> what it means."""


def certificate_trouble(code: int, message: str) -> TlsTrouble:
    """Return why the broker's certificate was refused here."""
    return CERTIFICATES.get(code, TlsTrouble(f"its certificate is not trusted: {message}", _AUTHORITY))


def alert_trouble(text: str) -> TlsTrouble | None:
    """Return why the broker refused this host's certificate, if ``text`` holds such an alert in OpenSSL's words."""
    names = re.findall(r"\b[A-Z0-9_]*ALERT_[A-Z0-9_]+\b", text)
    return next((found for name in names for end, found in ALERTS.items() if name.endswith(end)), None)
