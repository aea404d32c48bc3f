"""Certificates for tests, with whatever validity and names a test wants; one key for all of an authority's."""

import datetime as dt
import ipaddress
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    """Signs certificates into ``folder``; its own is ``ca``."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey
    ca: Path

    @classmethod
    def begin(cls, folder: Path, name: str = "farm") -> "Authority":
        """Return a new authority; its certificate lies in ``folder``."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = cls(folder, name, key, folder / f"{name}-ca.pem")
        built = made._builder(f"{name} authority", -2000, 2000, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        made.ca.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return made

    def issue(
        self, name: str, *, host: str | None = "127.0.0.1", begins: int = -10, ends: int = 1000
    ) -> tuple[str, str]:
        """Return certificate and key of ``name`` for ``host``, valid between two days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        built = self._builder(name, begins, ends, key)
        if host is not None:
            built = built.add_extension(x509.SubjectAlternativeName([_general(host)]), critical=False)
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(built.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(certificate), str(private)

    def _builder(self, name: str, begins: int, ends: int, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = dt.datetime.fromtimestamp(time.time(), dt.timezone.utc)
        return x509.CertificateBuilder(
            issuer_name=_named(f"{self.name} authority"),
            subject_name=_named(name),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now + begins * DAY,
            not_valid_after=now + ends * DAY,
        )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
