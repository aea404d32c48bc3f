"""The fleet's private certificate authority, as files: X.509 by the ``cryptography`` package.

- Keys are P-256: every TLS library of a board has it, and a handshake is cheap there.
- Everything begins in 1970: a device whose clock stands there must still get in. Nothing is lost by
  it: no certificate of this authority can be older than the authority's key.
- The list of revoked certificates ends with the authority, because a broker lets nobody in when
  its list is out of date.
"""

import ipaddress
import os
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgepick_host.errors import InputFileError, StateError

BEGINNING = datetime(1970, 1, 1, tzinfo=timezone.utc)
AUTHORITY_YEARS = 30
SERVER_YEARS = 10
CLIENT_YEARS = 20
YEAR = timedelta(days=365.25)

PRIVATE = 0o600
PUBLIC = 0o644


class Authority:
    """The authority in one folder: ``ca.pem``, ``ca.key``, ``issued/`` and ``expelled/``.

    Args:
        folder: Where it lies.
        now: Seconds since the epoch.

    Raises:
        InputFileError: There is no authority, or its files are damaged.
    """

    def __init__(self, folder: Path, *, now: float) -> None:
        self._folder = folder
        self._now = BEGINNING + timedelta(seconds=now)
        try:
            self.certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
            self._key = _private_key((folder / "ca.key").read_bytes())
        except (OSError, ValueError) as error:
            raise InputFileError(
                f"{folder}: no certificate authority that can be read ({getattr(error, 'strerror', None) or error})",
                hint="`edgepick broker init` makes one; --dir names its folder.",
            ) from error

    @classmethod
    def create(cls, folder: Path, fleet: str, *, now: float) -> "Authority":
        """Return a new authority; its folder is readable by its owner only.

        Raises:
            StateError: There is one already, or the folder cannot be written.
        """
        if (folder / "ca.key").exists():
            raise StateError(
                f"{folder}: an authority exists already; nothing was changed",
                hint="`edgepick devices enroll` and `edgepick broker renew` use it; --dir names another folder.",
            )
        for made in (folder, folder / "issued", folder / "expelled"):
            make_folder(made)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"edgepick fleet {fleet}")
        ends = BEGINNING + timedelta(seconds=now) + AUTHORITY_YEARS * YEAR
        certificate = (
            _builder(name, name, key.public_key(), ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        write_file(folder / "ca.key", _key_pem(key), mode=PRIVATE)
        write_file(folder / "ca.pem", _pem(certificate), mode=PUBLIC)
        return cls(folder, now=now)

    def issue_server(self, target: Path, hosts: Sequence[str]) -> None:
        """Write ``server.pem`` for these names and addresses, and ``server.key`` if it is new."""
        names = x509.SubjectAlternativeName([_alternative(host) for host in hosts])
        builder = self._leaf(hosts[0], _key_in(target / "server.key"), SERVER_YEARS, ExtendedKeyUsageOID.SERVER_AUTH)
        certificate = builder.add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        write_file(target / "server.pem", _pem(certificate), mode=PUBLIC)

    def issue_client(self, target: Path, stem: str, name: str, *, keep_key: bool) -> None:
        """Write ``{stem}.pem`` for the user ``name``, and ``{stem}.key``.

        With ``keep_key`` a key that is there stays, so that a renewal replaces one file and the pair
        always matches; without, a key that somebody may have got hold of is never certified again.
        """
        if not keep_key:
            (target / f"{stem}.key").unlink(missing_ok=True)
        builder = self._leaf(name, _key_in(target / f"{stem}.key"), CLIENT_YEARS, ExtendedKeyUsageOID.CLIENT_AUTH)
        certificate = builder.sign(self._key, hashes.SHA256())
        pem = _pem(certificate)
        # Noted first: a certificate that nobody knows of could never be revoked.
        write_file(self._folder / "issued" / f"{name}-{certificate.serial_number:x}.pem", pem, mode=PUBLIC)
        write_file(target / f"{stem}.pem", pem, mode=PUBLIC)

    def expel(self, name: str) -> int:
        """Return how many certificates of ``name`` count no longer; :meth:`revocations` has them."""
        mine = [path for path in self._certificates("issued") if path.stem.rpartition("-")[0] == name]
        for path in mine:
            path.replace(self._folder / "expelled" / path.name)
        return len(mine)

    def knows(self, name: str) -> bool:
        """Return whether a certificate of ``name`` counts."""
        return any(path.stem.rpartition("-")[0] == name for path in self._certificates("issued"))

    def revocations(self) -> bytes:
        """Return the signed list of everything expelled, as PEM."""
        ends = self.certificate.not_valid_after_utc
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, BEGINNING, ends)
        for path in self._certificates("expelled"):
            serial = x509.load_pem_x509_certificate(path.read_bytes()).serial_number
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, self._now).build())
        number = x509.CRLNumber(int(self._now.timestamp()))
        signed = builder.add_extension(number, critical=False).sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    @property
    def pem(self) -> bytes:
        """The authority's certificate."""
        return _pem(self.certificate)

    def _certificates(self, folder: str) -> list[Path]:
        return sorted((self._folder / folder).glob("*.pem"))

    def _leaf(
        self, name: str, key: ec.EllipticCurvePrivateKey, years: int, purpose: x509.ObjectIdentifier
    ) -> x509.CertificateBuilder:
        ends = min(self._now + years * YEAR, self.certificate.not_valid_after_utc)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            _builder(_name(name), self.certificate.subject, key.public_key(), ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(authority, critical=False)
        )


def write_file(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file; it appears whole, with these permissions, or not at all.

    Raises:
        StateError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StateError(f"{path}: {(error.strerror or 'cannot be written').lower()}") from error
    finally:
        part.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner enters.

    Raises:
        StateError: It cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"{folder}: {(error.strerror or 'cannot be made').lower()}") from error


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, ends: datetime
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=BEGINNING,
        not_valid_after=ends,
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_in(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the key in a file, made now if there is none."""
    try:
        if path.exists():
            return _private_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputFileError(f"{path}: {getattr(error, 'strerror', None) or 'no P-256 key in PEM'}") from error
    key = ec.generate_private_key(ec.SECP256R1())
    write_file(path, _key_pem(key), mode=PRIVATE)
    return key


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a P-256 key")  # noqa: TRY004 - the file's content is wrong, not a type in the program
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
