"""What goes wrong with certificates, in words a technician can act on. Pure tables and a small parser."""

import binascii
from collections.abc import Iterator
from typing import NamedTuple

CERTIFICATES = {
    9: "the broker's certificate is not yet valid by this device's clock; set the clock",
    10: "the broker's certificate has expired, or this device's clock is wrong",
    18: "the broker's certificate is self-signed; give its authority as `ca_file`",
    19: "the broker's certificate chain ends in an unknown authority; give it as `ca_file`",
    20: "the broker's certificate is by an unknown authority; give it as `ca_file`",
    62: "the broker's certificate is for another host name",
    64: "the broker's certificate is for another address",
}
"""OpenSSL's X509_V_ERR_* codes (openssl/x509_vfy.h), in words."""

ALERTS = {
    "CERTIFICATE_REQUIRED": "the broker wants a certificate of this device; give `cert_file` and `key_file`",
    "HANDSHAKE_FAILURE": "the broker refused the handshake; it may want a certificate of this device (`cert_file`)",
    "CERTIFICATE_EXPIRED": "the broker refused this device's certificate: expired, or not yet valid by its clock",
    "CERTIFICATE_REVOKED": "the broker refused this device's certificate: it was revoked",
    "UNKNOWN_CA": "the broker refused this device's certificate: its authority is unknown there",
    "BAD_CERTIFICATE": "the broker refused this device's certificate: not valid, or not yet valid by its clock",
    "CERTIFICATE_UNKNOWN": "the broker refused this device's certificate",
    "UNSUPPORTED_CERTIFICATE": "the broker refused this device's certificate: not made for a client",
    "DECRYPT_ERROR": "the broker refused this device's certificate: certificate and key do not belong together",
}
"""End of the name that OpenSSL gives a TLS alert (RFC 8446, section 6.2) -> words."""

PEM_BEGIN = "-----BEGIN CERTIFICATE-----"
PEM_END = "-----END CERTIFICATE-----"
VALIDITY_FIELD = 3
"""Field of a TBSCertificate that holds the validity, after its version (RFC 5280, section 4.1)."""
VERSION_TAG = 0xA0


class Validity(NamedTuple):
    """First and last second of a certificate, both ``YYYYMMDDHHMMSS`` in UTC: they sort as text."""

    begins: str
    ends: str


def certificate_words(code: int, message: str) -> str:
    """Return why the broker's certificate was refused here."""
    return CERTIFICATES.get(code, f"TLS: {message}")


def alert_words(reason: str | None) -> str | None:
    """Return why the broker refused ours, or ``None`` where ``reason`` is no such alert."""
    name = reason or ""
    return next((words for end, words in ALERTS.items() if "ALERT" in name and name.endswith(end)), None)


def validity(pem: str) -> Validity:
    """Return when the first certificate of a PEM file begins and ends.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    head, begin, rest = pem.partition(PEM_BEGIN)
    body, end, _ = rest.partition(PEM_END)
    if not begin or not end:
        raise ValueError("holds no certificate")
    del head
    try:
        certificate = next(_fields(binascii.a2b_base64(body)))[1]
        fields = list(_fields(next(_fields(certificate))[1]))
        at = VALIDITY_FIELD + (fields[0][0] == VERSION_TAG)
        times = [_time(tag, value) for tag, value in _fields(fields[at][1])]
        return Validity(times[0], times[1])
    except (IndexError, StopIteration, binascii.Error, UnicodeDecodeError) as error:
        raise ValueError("holds a damaged certificate") from error


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and value of each element of DER (X.690, section 8.1)."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(data[at : at + count], "big"), at + count
        yield tag, data[at : at + size]
        at += size


def _time(tag: int, value: bytes) -> str:
    """Return a UTCTime (two digits of year, from 1950) or a GeneralizedTime as fourteen digits."""
    text = value.decode("ascii").rstrip("Z")
    century = "" if tag != 0x17 else "19" if text >= "50" else "20"
    return century + text
