"""Reads a root document or a bundle file for a person to look at, signatures verified; changes nothing."""

import tarfile
from pathlib import Path

from edgepick_agent.core.admission import refuse
from edgepick_agent.errors import AgentError, RefusedError, StorageError
from edgepick_wire import envelope, limits
from edgepick_wire.bundle import MANIFEST_MEMBER
from edgepick_wire.envelope import DocumentType
from edgepick_wire.errors import SignatureError, WireError
from edgepick_wire.manifest import Manifest, manifest_digest, parse_manifest
from edgepick_wire.messages import RefusalCode
from edgepick_wire.trust import RootDocument, first_root


def read_root(path: Path) -> RootDocument:
    """Return the root document in a file.

    Raises:
        StorageError: The file cannot be read.
        WireError: Not a root document, or not signed by its own root role.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "Copy the fleet's root document from the host; `edgepick keys` shows where it lies."
        raise StorageError(f"{path}: {(error.strerror or 'cannot be read').lower()}", hint=hint) from error
    return first_root(envelope.unpack(data), check_signature)


def read_bundle(path: Path, root: RootDocument) -> tuple[Manifest, str]:
    """Return the manifest of a bundle file, verified with the release role of ``root``, and its digest.

    Raises:
        StorageError: The file cannot be read.
        RefusedError: Not a bundle, or not signed by a release key.
    """
    try:
        document = envelope.unpack(_first_member(path))
        payload = envelope.verify(document, DocumentType.MANIFEST, root.release, check_signature)
        return parse_manifest(payload), manifest_digest(payload)
    except SignatureError as error:
        raise RefusedError(refuse(RefusalCode.BAD_SIGNATURE, f"{path}: {error}", error.hint)) from error
    except WireError as error:
        raise RefusedError(refuse(RefusalCode.MALFORMED, f"{path}: {error}", error.hint)) from error


def _first_member(path: Path) -> bytes:
    """Return the signed manifest, which is the first member of a bundle file."""
    try:
        with tarfile.open(path, "r:") as archive:
            member = archive.next()
            if member is None or member.name != MANIFEST_MEMBER or not member.isreg():
                raise _not_a_bundle(path, f"it does not begin with {MANIFEST_MEMBER}")
            file = archive.extractfile(member)
            return file.read(limits.MAX_PAYLOAD_BYTES + 1) if file else b""
    except tarfile.TarError as error:
        raise _not_a_bundle(path, str(error)) from error
    except OSError as error:
        hint = "Is the USB stick mounted, and the file readable? lsblk -f shows what is mounted where."
        raise StorageError(f"{path}: {(error.strerror or 'cannot be read').lower()}", hint=hint) from error


def _not_a_bundle(path: Path, why: str) -> RefusedError:
    hint = "Copy the .edgepick file again; the host writes it with: edgepick bundle"
    return RefusedError(refuse(RefusalCode.MALFORMED, f"{path} is not a bundle: {why}", hint))


def check_signature(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether an Ed25519 signature is valid (:data:`edgepick_wire.envelope.VerifySignature`).

    Raises:
        AgentError: PyNaCl is not installed.
    """
    try:
        from nacl.exceptions import BadSignatureError
        from nacl.signing import VerifyKey
    except ImportError as error:
        raise AgentError("signatures cannot be checked", hint="pip install 'edgepick[agent]'") from error
    try:
        VerifyKey(public_key).verify(message, signature)
    except BadSignatureError:
        return False
    return True
